"""Installs what an acceptance script needs and does not find: Debian packages, and packages of npm and PyPI in a directory.

Downloads are kept in target/acceptance/tools and nowhere else. No daemon is started: services are refused by a
policy-rc.d while apt runs, and Postfix, of which only smtp-source is used, is installed without a configuration.
"""

import os
import shutil
import subprocess
import zipfile
from contextlib import contextmanager
from pathlib import Path

from relay import ACCEPTANCE, Fault

TOOLS = ACCEPTANCE / "tools"
POLICY = Path("/usr/sbin/policy-rc.d")


def need(commands):
    """Installs the packages whose command or file is missing; `commands` maps a command, or a path, to its package."""
    missing = sorted({package for command, package in commands.items() if not present(command)})
    if missing:
        install(missing)
    still = [command for command in commands if not present(command)]
    if still:
        raise Fault(f"still not there after installing {', '.join(missing)}: {', '.join(still)}")


def present(command):
    return Path(command).exists() if command.startswith("/") else shutil.which(command) is not None


def install(packages):
    print(f"installing {', '.join(packages)}")
    if os.geteuid() != 0:
        raise Fault(f"not root; install these by hand: {' '.join(packages)}")
    archives = TOOLS / "apt"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "install", "-y", "--no-install-recommends", "--no-remove"]
    command += ["-o", f"Dir::Cache::archives={archives}", *packages]
    if "postfix" in packages:
        quietly(["debconf-set-selections"], stdin="postfix postfix/main_mailer_type select No configuration\n")
    with services_refused():
        if subprocess.run(command, env=apt_environment(), capture_output=True).returncode != 0:
            quietly(["apt-get", "update"])
            quietly(command)


def unpack(root, packages):
    """Unpacks Debian packages and all that they depend on below `root`, unless that was done before.

    Nothing is installed and no script of a package runs. What this machine has installed plays no part.
    """
    done = root / ".unpacked"
    if done.exists() and done.read_text() == " ".join(packages):
        return
    print(f"unpacking {', '.join(packages)} below {root}")
    shutil.rmtree(root, ignore_errors=True)
    archives = root / "archives"
    (archives / "partial").mkdir(parents=True)
    status = root / "status"
    status.touch()
    command = ["apt-get", "install", "-y", "--no-install-recommends", "--download-only"]
    command += ["-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={archives}"]
    command += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Debug::NoLocking=1", *packages]
    if subprocess.run(command, env=apt_environment(), capture_output=True).returncode != 0:
        quietly(["apt-get", "update"])
        quietly(command)
    for directory in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / directory).mkdir(parents=True, exist_ok=True)
        (root / directory).symlink_to(f"usr/{directory}")
    for archive in sorted(archives.glob("*.deb")):
        unpack_one(archive, root)
    shutil.rmtree(archives)
    done.write_text(" ".join(packages))


def unpack_one(archive, root):
    """As `dpkg -x`, but a directory of the archive does not replace a link to one: /lib stays a link to usr/lib."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as contents:
        quietly(["tar", "--extract", "--keep-directory-symlink", "--directory", str(root)], stdin=contents.stdout)
    if contents.returncode != 0:
        raise Fault(f"dpkg-deb could not read {archive}")


def works(command):
    """Whether a command can be run and ends with 0."""
    return subprocess.run(command, capture_output=True).returncode == 0


def apt_environment():
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def quietly(command, stdin=None):
    """Runs a command; its output is shown only if it fails."""
    given = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin or subprocess.DEVNULL}
    done = subprocess.run(
        command, env=apt_environment(), **given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        raise Fault(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")


@contextmanager
def services_refused():
    """A policy-rc.d that forbids service starts; one that is there already is left alone."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def need_wheel(requirement):
    """Unpacks the wheel of name==version below target/acceptance/tools and returns the directory."""
    directory = TOOLS / requirement.replace("==", "-")
    if not (directory / ".unpacked").exists():
        print(f"fetching {requirement} (pip)")
        need({"pip3": "python3-pip"})
        shutil.rmtree(directory, ignore_errors=True)
        quietly(["pip3", "download", "--no-deps", "--only-binary=:all:", "--dest", str(directory), requirement])
        for wheel in directory.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(directory)
            wheel.unlink()
        (directory / ".unpacked").touch()
    return directory


def need_npm(package):
    """Installs name@version below target/acceptance/tools and returns the node_modules directory."""
    name, version = package.rsplit("@", 1)
    prefix = TOOLS / f"{name}-{version}"
    modules = prefix / "node_modules"
    if not (modules / name / "package.json").exists():
        print(f"installing {package} (npm)")
        prefix.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(prefix), "--cache", str(TOOLS / "npm-cache")]
        quietly([*command, "--no-audit", "--no-fund", "--ignore-scripts", package])
    return modules


def need_pip(package):
    """Installs name==version below target/acceptance/tools and returns the directory to import it from."""
    name, version = package.split("==")
    target = TOOLS / f"{name}-{version}"
    if not (target / name).is_dir():
        if not works(["python3", "-m", "pip", "--version"]):
            install(["python3-pip"])
        print(f"installing {package} (pip)")
        quietly(["python3", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--target", str(target), package])
    return target
