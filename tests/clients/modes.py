"""How a client connects: TLS or not, with user and password or not; and what of that the relay under test can do."""

import re
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import packages
from bodies import BODIES
from drivers.driver import Peer
from relay import CLIENT_PASSWORD, LOOPBACK, Fault

USER = "scanner"


@dataclass(frozen=True)
class Mode:
    """One way to connect. `tls` is none, starttls or implicit; `auth` is none, any or users."""

    name: str
    tls: str = "none"
    auth: str = "none"
    bodies: tuple = ("plain",)

    @property
    def is_plain(self):
        return self.tls == "none" and self.auth == "none"

    @property
    def keys(self):
        """The keys of [listener] that the relay must know for it."""
        return {key for key in ("tls", "auth") if getattr(self, key) != "none"}

    @property
    def abilities(self):
        """What a client has to be able to, in the words of `Driver.cannot`."""
        if self.auth == "none":
            return {self.tls}
        return {self.tls, "auth", *({"auth in the clear"} if self.tls == "none" else ())}


MODES = [
    Mode("plain", bodies=tuple(BODIES)),
    Mode("auth", auth="users"),
    Mode("any-auth", auth="any"),
    Mode("starttls", tls="starttls", bodies=("plain", "10-MB")),
    Mode("starttls+auth", tls="starttls", auth="users"),
    Mode("tls", tls="implicit", bodies=("plain", "10-MB")),
    Mode("tls+auth", tls="implicit", auth="users"),
]


def listener_keys(binary):
    """The keys that this relay has in [listener], from its own example."""
    example = subprocess.run([binary, "config", "example"], capture_output=True, text=True, check=True).stdout
    section = re.search(r"(?ms)^\[listener\]$(.*?)(?=^\[)", example)
    if section is None:
        raise Fault("`config example` shows no [listener]")
    return set(re.findall(r"(?m)^#? ?(\w+) = ", section.group(1)))


class Credentials:
    """A certificate for 127.0.0.1 and a user, made anew for each run and known to nobody else."""

    def __init__(self, workplace):
        packages.need({"openssl": "openssl"})
        directory = workplace.make("credentials")
        self.certificate, self.key = directory / "certificate.pem", directory / "key.pem"
        self.users = directory / "users"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-addext", f"subjectAltName=DNS:localhost,IP:{LOOPBACK}"]
        packages.quietly([*command, "-keyout", str(self.key), "-out", str(self.certificate)])
        self.key.chmod(0o600)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(self.certificate, self.key)
        self.server_context.num_tickets = 0  # libesmtp stumbles over them, and so the relay sends none either

    def hash_password(self, binary):
        """Asks the relay for the stored form of the password and writes the file of users."""
        done = subprocess.run([binary, "hash-password"], input=CLIENT_PASSWORD + "\n", capture_output=True, text=True)
        if done.returncode != 0:
            raise Fault(f"`hash-password` ended with {done.returncode}: {done.stderr.strip()}")
        self.users.write_text(f"{USER}:{done.stdout.strip()}\n")
        self.users.chmod(0o600)

    def settings(self, mode, binary):
        """What the relay's configuration says in this mode, for `--set`."""
        settings = []
        if mode.tls != "none":
            settings += [f"listener.tls={mode.tls}", "listener.tls_required=true"]
            settings += [f"listener.tls_certificate_file={self.certificate}"]
            settings += [f"listener.tls_key_file={self.key}"]
        if mode.auth != "none":
            settings += [f"listener.auth={mode.auth}"]
        if mode.auth == "users":
            self.hash_password(binary)
            settings += [f"listener.users_file={self.users}"]
        return settings

    def peer(self, mode, port):
        login = (USER, CLIENT_PASSWORD) if mode.auth != "none" else None
        return Peer(port, mode.tls, login, Path(self.certificate), self.server_context)
