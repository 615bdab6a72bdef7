"""Finds a way to limit a process's memory on this machine, and proves that it bites before it is used."""

import shutil
import subprocess
import sys
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from relay import Fault, die_with_parent, wait_until

CGROUP_SECONDS = 10
GROUP_PREFIX = "relay-acceptance-"
# Writes to each page of three times the limit.
CONTROL = "import sys; block = bytearray(b'x') * (3 * int(sys.argv[1])); print(len(block))"


class Limit:
    """A kind of limit: a note of what it is, and the words that put a command under it."""

    def __init__(self, note, wrapper, directory=None):
        self.note = note
        self.wrapper = wrapper
        self.directory = directory

    def bites(self, octets):
        """Whether a process which takes three times the memory fails under this limit, and one which does not runs."""
        big = [*self.wrapper, sys.executable, "-c", CONTROL, str(octets)]
        small = [*self.wrapper, sys.executable, "-c", "print(1)"]
        return ended_with(small) == 0 and ended_with(big) != 0

    def remove(self):
        if self.directory and self.directory.exists():
            wait_until("removal of the control group", self.removed, CGROUP_SECONDS)

    def removed(self):
        """A control group can be removed a moment after its last process ended."""
        with suppress(OSError):
            self.directory.rmdir()
        return not self.directory.exists()


def ended_with(command):
    """The exit code; 1 for a command that hangs, as systemd-run does where no manager answers."""
    try:
        return subprocess.run(command, capture_output=True, timeout=30, preexec_fn=die_with_parent).returncode
    except subprocess.TimeoutExpired:
        return 1


@contextmanager
def memory_limit(octets):
    """The first limit this machine offers that bites; it is removed at the end."""
    for kind in (by_systemd, by_cgroup_v2, by_cgroup_v1, by_prlimit):
        limit = None
        with suppress(OSError, subprocess.SubprocessError):
            limit = kind(octets)
        if limit is None:
            continue
        try:
            if limit.bites(octets):
                yield limit
                return
        finally:
            limit.remove()
    raise Fault("this machine offers no memory limit that bites: no systemd, no control group, no prlimit")


def by_systemd(octets):
    if not Path("/run/systemd/system").is_dir() or not shutil.which("systemd-run"):
        return None
    wrapper = ["systemd-run", "--scope", "--quiet", "--collect"]
    wrapper += ["-p", f"MemoryMax={octets}", "-p", "MemorySwapMax=0", "--"]
    return Limit("systemd scope, MemoryMax", wrapper)


def by_cgroup_v2(octets):
    root = mount_point("cgroup2", "")
    if root is None or "memory" not in (root / "cgroup.controllers").read_text().split():
        return None
    (root / "cgroup.subtree_control").write_text("+memory")
    group = new_group(root, {"memory.max": octets})
    with suppress(OSError):
        (group / "memory.swap.max").write_text("0")
    return in_group(group, "control group (version 2), memory.max")


def by_cgroup_v1(octets):
    root = mount_point("cgroup", "memory")
    if root is None:
        return None
    group = new_group(root, {"memory.limit_in_bytes": octets})
    with suppress(OSError):
        (group / "memory.memsw.limit_in_bytes").write_text(str(octets))
    return in_group(group, "control group (version 1), memory.limit_in_bytes")


def by_prlimit(octets):
    """Not RLIMIT_AS: each thread of glibc's allocator reserves 64 MB of address space which it never uses."""
    note = "RLIMIT_DATA: no control group here; private memory is limited, page cache and mapped files are not"
    return Limit(note, ["prlimit", f"--data={octets}"])


def mount_point(kind, option):
    """Where a file system of that kind is mounted, if it has the option."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, found_kind, options, *_ = line.split()
        if found_kind == kind and (not option or option in options.split(",")):
            return Path(where)
    return None


def new_group(root, settings):
    """A control group with these settings; empty ones which a killed run left behind are removed."""
    for stale in root.glob(f"{GROUP_PREFIX}*"):
        with suppress(OSError):
            stale.rmdir()
    group = root / f"{GROUP_PREFIX}{uuid.uuid4().hex[:8]}"
    group.mkdir()
    try:
        for name, value in settings.items():
            (group / name).write_text(str(value))
    except OSError:
        group.rmdir()
        raise
    return group


def in_group(group, note):
    enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    return Limit(note, ["sh", "-c", enter, str(group)], group)
