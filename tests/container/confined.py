"""Runs the image's command as an engine would: bubblewrap in the place of one, an overlay as the root."""

import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import image
import packages
import relay

QUEUE = "/var/lib/o365-relay"


class Container(relay.Process):
    """The image's command in a file system like a container's: an overlay as its root, nothing of the host but
    loopback, resolver and what is mounted. It is process 1, as it would be."""

    def __init__(
        self,
        made,
        place,
        workplace,
        environment,
        *,
        volume=None,
        files=(),
        name="container",
        root="ro",
        command=(),
        prefix=(),
    ):
        self.made, self.environment, self.prefix = made, environment, prefix
        self.root = Layer(made, place, [target for _, target in files])
        self.volume, self.files, self.read_only = volume, files, root == "ro"
        try:
            super().__init__(name, self.words(made.command(*command)), workplace)
        except BaseException:
            self.root.remove()
            raise

    def words(self, command):
        root = "--ro-bind" if self.read_only else "--bind"
        drop = ["setpriv", f"--reuid={image.USER}", f"--regid={image.USER}", "--clear-groups", "--no-new-privs"]
        words = [*drop, "--bounding-set=-all", "--inh-caps=-all"]
        words += ["bwrap", "--die-with-parent", "--unshare-all", "--share-net", "--as-pid-1", "--cap-drop", "ALL"]
        words += ["--clearenv", root, self.root.path, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for file in ("/etc/hosts", "/etc/resolv.conf"):
            words += ["--ro-bind", file, file]
        if self.volume:
            words += ["--bind", self.volume, QUEUE]
        for source, target in self.files:
            words += ["--ro-bind", source, target]
        for name, value in {**self.made.environment(), **self.environment}.items():
            words += ["--setenv", name, value]
        return [*self.prefix, *words, "--chdir", "/", *command]

    def also(self, *words):
        """Another command in the same container, as HEALTHCHECK and `docker exec` have it."""
        command = [str(word) for word in self.words(words)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @property
    def relay_pid(self):
        """The process below bubblewrap."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def is_healthy(self):
        return self.also(*self.made.config["Healthcheck"]["Test"][1:]).returncode == 0

    def signal(self):
        """What the engine sends first when it stops a container."""
        os.kill(self.relay_pid, getattr(signal, self.made.config["StopSignal"]))

    def stop(self):
        try:
            if self.child.poll() is None and self.relay_pid:
                self.signal()
                self.child.wait(relay.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            self.root.remove()
        return self.child.returncode

    def check_confined(self):
        """What the kernel says of the process."""
        lines = Path(f"/proc/{self.relay_pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        if status["Uid"].split() != [str(image.USER)] * 4 or status["Gid"].split() != [str(image.USER)] * 4:
            raise relay.Fault(f"user {status['Uid']}, group {status['Gid']}")
        held = {name: status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        if any(int(value, 16) for value in held.values()) or status["NoNewPrivs"].strip() != "1":
            raise relay.Fault(f"capabilities {held}, NoNewPrivs {status['NoNewPrivs']}")
        mounts = Path(f"/proc/{self.relay_pid}/mountinfo").read_text().splitlines()
        roots = [line for line in mounts if line.split()[4] == "/"]
        if not roots or " - overlay " not in roots[-1] or "ro" not in roots[-1].split()[5].split(","):
            raise relay.Fault(f"the root is not a read-only overlay: {roots}")
        resident = status["VmRSS"].strip()
        print(f"runs as user {image.USER}, root read-only, no capability, no new privileges; resident: {resident}")


class Layer:
    """An overlay above the image's file system, with the marks and mount points that Docker puts there."""

    def __init__(self, made, place, targets):
        base = Path(tempfile.mkdtemp(prefix="layer-", dir=place))
        # In memory: an overlay cannot lie on another one, where CI itself runs in a container.
        packages.quietly(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(base)])
        self.path = base / "root"
        self.memory = base
        for name in ("root", "upper", "work"):
            (base / name).mkdir()
        layers = f"lowerdir={made.root},upperdir={base}/upper,workdir={base}/work"
        packages.quietly(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.path)])
        (self.path / ".dockerenv").touch()
        for target in [*targets, "/etc/hosts", "/etc/resolv.conf"]:
            file = self.path / target.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def remove(self):
        for mounted in (self.path, self.memory):
            if os.path.ismount(mounted):
                packages.quietly(["umount", "-l", str(mounted)])


@contextmanager
def network():
    """Loopback and nothing else; yields the words before a command that runs there."""
    name = f"o365-relay-{os.getpid()}"
    packages.quietly(["ip", "netns", "add", name])
    try:
        packages.quietly(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"])
        yield ["ip", "netns", "exec", name]
    finally:
        packages.quietly(["ip", "netns", "delete", name])


def fresh_volume(made, path):
    """An engine gives a new volume the owner and the mode that the image has there."""
    facts = (made.root / QUEUE.lstrip("/")).stat()
    path.mkdir()
    os.chown(path, facts.st_uid, facts.st_gid)
    path.chmod(facts.st_mode & 0o7777)
    return path
