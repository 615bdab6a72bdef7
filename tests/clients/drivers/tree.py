"""Debian packages unpacked below target/acceptance/tools, with all they depend on, and run there with chroot.

Mail servers cannot stand side by side on one system, and installing one would touch the machine's own port 25, aliases
and users. Here each has a small system of its own, of which only it knows, and nothing is configured or started by
the package.
"""

import os
import shutil
import stat
from dataclasses import dataclass, field

import packages

DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}
USERS = {"root": 0, "mail": 8, "nobody": 65534}


@dataclass(frozen=True)
class Tree:
    """A directory that looks like a small Debian. `users` are those the packages' own scripts would have made."""

    name: str
    packages: list = field(hash=False)
    users: tuple = ()

    @property
    def root(self):
        return packages.TOOLS / "trees" / self.name

    @property
    def numbers(self):
        """User and group numbers, those of a Debian and our own."""
        return {**USERS, **{user: 100 + number for number, user in enumerate(self.users)}}

    def unpack(self):
        packages.unpack(self.root, self.packages)
        for name in ("dev", "tmp", "etc", "root", "run", "var/tmp", "var/log", "var/mail"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        if not (self.root / "var/run").exists():
            (self.root / "var/run").symlink_to("../run")
        for name, numbers in DEVICES.items():
            device = self.root / "dev" / name
            if not device.exists():
                os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(*numbers))
                device.chmod(0o666)
        self.write(
            "etc/passwd", "".join(f"{user}:x:{n}:{n}:{user}:/root:/bin/sh\n" for user, n in self.numbers.items())
        )
        self.write("etc/group", "".join(f"{user}:x:{n}:\n" for user, n in self.numbers.items()))
        self.write("etc/hosts", "127.0.0.1 localhost client.example client\n")
        self.write("etc/hostname", "client.example\n")
        self.write("etc/mailname", "client.example\n")
        self.write("etc/resolv.conf", "")
        if not (self.root / "etc/services").exists():
            self.write("etc/services", "smtp 25/tcp\nsubmission 587/tcp\nsubmissions 465/tcp\n")

    def write(self, name, text, mode=0o644):
        """Writes a file of the tree; root owns it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def directory(self, name, user="root", mode=0o755):
        """Makes a directory, empty, that belongs to one of the tree's users."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        self.give(name, user, mode)

    def give(self, name, user, mode):
        """Gives a file of the tree to one of its users, as the package's scripts would have done."""
        number = self.numbers[user]
        os.chown(self.root / name, number, number)
        (self.root / name).chmod(mode)

    def fifo(self, name, user, mode):
        if not (self.root / name).exists():
            os.mkfifo(self.root / name)
        self.give(name, user, mode)

    def command(self, *words):
        return ["chroot", str(self.root), *words]
