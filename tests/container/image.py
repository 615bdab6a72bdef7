"""Makes the image with buildah, on bases of Debian's packages that stand in for those which the Dockerfile names.

Nothing is pulled: what is fetched are Debian packages. The store of images is target/acceptance/tools/images, and its
driver is vfs, which needs nothing of the kernel.
"""

import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import packages
import relay

RUNTIME = "gcr.io/distroless/cc-debian12:nonroot"
BUILDER = "docker.io/library/rust:1.95-bookworm"
IMAGE = "localhost/o365-relay:tried"
STORE = packages.TOOLS / "images"
USER = 65532
NO_SHELL = "/sbin/nologin"
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"


class Image:
    """The image as it was made: its file system, and the configuration that an engine goes by."""

    def __init__(self, name=IMAGE):
        self.container = buildah("from", "--pull-never", name)
        self.root = Path(buildah("mount", self.container))
        inspected = json.loads(buildah("inspect", "--type", "image", name))
        self.config = inspected["Docker"]["config"]

    def remove(self):
        buildah("rm", self.container)

    def environment(self):
        return dict(item.split("=", 1) for item in self.config["Env"])

    def command(self, *words):
        return [*self.config["Entrypoint"], *(words or self.config["Cmd"])]


def buildah(*words, shown=False):
    """Runs buildah on the store of this project; returns what it says."""
    policy = STORE / "policy.json"
    if not policy.exists():
        STORE.mkdir(parents=True, exist_ok=True)
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    command = ["buildah", "--root", STORE / "root", "--runroot", STORE / "run", "--storage-driver", "vfs"]
    command = [str(word) for word in (*command, *words)]
    if words[0] in ("from", "build", "commit"):
        command.insert(command.index(words[0]) + 1, f"--signature-policy={policy}")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        said = "" if shown else f":\n{(done.stderr + done.stdout)[-3000:]}"
        raise relay.Fault(f"{' '.join(command)} ended with {done.returncode}{said}")
    return (done.stdout or "").strip()


def is_there(name):
    return packages.works(
        ["buildah", "--root", str(STORE / "root"), "--runroot", str(STORE / "run"), "--storage-driver", "vfs"]
        + ["inspect", "--type", "image", name]
    )


def commit(name, root, *config):
    """An image of one layer, which is what lies below `root`."""
    container = buildah("from", "scratch")
    if config:
        buildah("config", *config, container)
    buildah("copy", container, root, "/")
    buildah("commit", "--rm", container, name)


def make_runtime_base():
    """The C library and a user, which is what the real one comes to."""
    if is_there(RUNTIME):
        return
    root = packages.TOOLS / "container-runtime"
    packages.unpack(root, ["libc6", "libgcc-s1"])
    for directory in ("etc", "proc", "dev", "sys", "run", "tmp", "home/nonroot", "var/lib"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    users = [f"root:x:0:0:root:/root:{NO_SHELL}", f"nonroot:x:{USER}:{USER}::/home/nonroot:{NO_SHELL}"]
    (root / "etc/passwd").write_text("\n".join(users) + "\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    commit(RUNTIME, root)


def make_builder_base():
    """Debian with a C compiler; the Rust of this machine is mounted while it builds."""
    if is_there(BUILDER):
        return
    packages.need({"debootstrap": "debootstrap"})
    root = packages.TOOLS / "container-builder"
    shutil.rmtree(root, ignore_errors=True)
    packages.quietly(
        ["debootstrap", "--variant=minbase", "--include=gcc,libc6-dev,ca-certificates", SUITE, str(root), MIRROR]
    )
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    (root / "usr/local/cargo/registry").mkdir(parents=True)
    (root / "usr/local/toolchain").mkdir(parents=True)
    path = "/usr/local/toolchain/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    commit(BUILDER, root, "--env", f"PATH={path}", "--env", "CARGO_HOME=/usr/local/cargo")
    shutil.rmtree(root)


def from_binary(binary):
    """The final stage of the Dockerfile as it is, on a binary that is there already."""
    make_runtime_base()
    with tempfile.TemporaryDirectory(prefix="o365-relay-image-") as place:
        place = Path(place)
        out = place / "stage" / "out"
        for directory in ("bin", "certs", "lib/o365-relay"):
            (out / directory).mkdir(parents=True)
        shutil.copy(binary, out / "bin" / "o365-relay")
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", out / "certs")
        (out / "lib/o365-relay").chmod(0o700)
        text = (relay.ROOT / "Dockerfile").read_text()
        # The stage that compiles is put aside; what it would have left is given in its place.
        head, rest = text.split("FROM rust:", 1)
        last = rest[rest.index("\nFROM ") :]
        file = place / "Dockerfile"
        file.write_text(f"{head}FROM scratch AS build\nCOPY out /out\n{last}")
        build(file, place / "stage")


def from_sources(profile):
    """All of the Dockerfile, on what a clean checkout of the last commit holds."""
    make_runtime_base()
    make_builder_base()
    sysroot = output_of(["rustc", "--print", "sysroot"])
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    with tempfile.TemporaryDirectory(prefix="o365-relay-image-") as place:
        place = Path(place)
        context = place / "checkout"
        context.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=relay.ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "--extract", "--directory", context], input=archive.stdout, check=True)
        # The crates come from what this machine has fetched, and how it fetched them is its own affair.
        settings = place / "config.toml"
        ours = home / "config.toml"
        settings.write_text((ours.read_text() if ours.exists() else "") + "\n[net]\noffline = true\n")
        volumes = [f"{sysroot}:/usr/local/toolchain:ro", f"{home}/registry:/usr/local/cargo/registry"]
        volumes.append(f"{settings}:/usr/local/cargo/config.toml:ro")
        words = [word for volume in volumes for word in ("--volume", volume)]
        revision = output_of(["git", "rev-parse", "HEAD"])
        build(
            context / "Dockerfile",
            context,
            *words,
            "--build-arg",
            f"PROFILE={profile}",
            "--build-arg",
            f"REVISION={revision}",
            "--ignorefile",
            context / ".dockerignore",
        )


def build(file, context, *words):
    words = ["--isolation", "chroot", "--format", "docker", "--pull-never", *words]
    buildah("build", *words, "--tag", IMAGE, "--file", file, context, shown=True)


def output_of(command):
    return subprocess.run(command, cwd=relay.ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def version():
    return tomllib.loads((relay.ROOT / "Cargo.toml").read_text())["package"]["version"]
