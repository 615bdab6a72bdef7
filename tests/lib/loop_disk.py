"""A small ext4 file system in a file, mounted by a loop device, whose power can be cut. Needs root."""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

from relay import ACCEPTANCE, Fault

# EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32): from now on nothing reaches the disk. With NOLOGFLUSH not even the journal
# that is in memory does: what was not synced is gone, as when the power fails.
EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
DETACH_SECONDS = 10


def tool(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Fault(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout.strip()


def sweep(script):
    """Detaches what a killed run of that script left mounted; call it before its workplace is emptied."""
    if os.geteuid() != 0:
        raise Fault("not root: file systems cannot be mounted")
    below = f"{ACCEPTANCE / script}/"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        where = line.split()[1]
        if where.startswith(below):
            tool("umount", "-l", where)
    for line in tool("losetup", "--noheadings", "--list", "--output", "NAME,BACK-FILE").splitlines():
        device, _, file = line.partition(" ")
        if file.strip().startswith(below):
            tool("losetup", "-d", device)


class LoopDisk:
    """An image with ext4 on it; a context manager that leaves neither a mount nor a loop device."""

    def __init__(self, workplace, name, mebibytes):
        self.image = workplace.directory / f"{name}.image"
        self.mount_point = workplace.make(f"{name}.mount")
        self.device = None
        with open(self.image, "wb") as image:
            image.truncate(mebibytes * 1024 * 1024)
        tool("mkfs.ext4", "-q", "-F", "-m", "0", self.image)

    def __enter__(self):
        self.mount()
        return self

    def __exit__(self, *_):
        self.detach()

    def mount(self):
        self.device = tool("losetup", "--find", "--show", self.image)
        try:
            tool("mount", "-t", "ext4", self.device, self.mount_point)
        except Fault:
            self.detach()
            raise

    def detach(self):
        """Unmounts, and waits for the last descriptor of a process that has just been killed."""
        if self.device is None:
            return
        deadline = time.monotonic() + DETACH_SECONDS
        while os.path.ismount(self.mount_point):
            try:
                tool("umount", self.mount_point)
            except Fault:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        tool("losetup", "-d", self.device)
        self.device = None

    def power(self):
        """The open mount point; hand it to `cut`, so that nothing has to be opened at that moment."""
        return os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def cut(power):
        fcntl.ioctl(power, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))

    def remount_copy(self):
        """Goes on with a copy of the image as it is now; mounting it replays the journal."""
        self.detach()
        copy = self.image.with_suffix(".copy")
        tool("cp", "--sparse=always", self.image, copy)
        os.replace(copy, self.image)
        self.mount()

    def free_octets(self):
        facts = os.statvfs(self.mount_point)
        return facts.f_bavail * facts.f_frsize

    def directory(self, name):
        return self.mount_point / name

    def empty(self, name):
        shutil.rmtree(self.mount_point / name, ignore_errors=True)
