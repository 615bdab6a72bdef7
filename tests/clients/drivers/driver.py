"""What a client is to tests/clients/run: its name, what it needs and can do, and how it is called for one message."""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bodies import ATTACHMENT_NAME
from relay import LOOPBACK, REVERSE_PATH

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
EHLO_NAME = "client.example"


@dataclass(frozen=True)
class Peer:
    """The server a client is to use: the relay or the recorder. `login` is a pair of user and password, or None."""

    port: int
    tls: str
    login: tuple | None
    certificate: Path
    server_context: ssl.SSLContext

    @property
    def user(self):
        return self.login[0] if self.login else ""

    @property
    def password(self):
        return self.login[1] if self.login else ""


@dataclass
class Call:
    """A command with what it reads from standard input and what is added to its environment."""

    command: list
    stdin: bytes = b""
    environment: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Driver:
    """One client.

    `needs` maps commands and files to the Debian packages that bring them; `prepare` builds or unpacks what is not
    simply installed. `fresh` are the header fields that it makes anew for each message, so that their values cannot
    be compared. `cannot` maps a body, "starttls", "implicit", "auth" or "auth in the clear" to the reason why this
    client does without. A `loose` one speaks as no RFC allows. One that `splits` sends many recipients in as many
    transactions as it happens to have at hand, another number each time.
    """

    name: str
    stands_for: str
    call: Callable
    needs: dict = field(default_factory=dict)
    prepare: Callable = lambda: None
    fresh: tuple = ()
    cannot: dict = field(default_factory=dict)
    loose: bool = False
    splits: bool = False

    @property
    def slug(self):
        """The name as part of a path and of an X-Id."""
        return re.sub(r"[^\w.]+", "-", self.name).strip("-")


def raw_file(message, directory):
    path = directory / f"{message.identifier}.eml"
    path.write_bytes(message.raw())
    return str(path)


def attachment_file(message, directory):
    path = directory / ATTACHMENT_NAME
    path.write_bytes(message.attachment)
    return str(path)


def with_line_feeds(message):
    """The message as a Unix program reads it."""
    return message.raw().replace(b"\r\n", b"\n")


def program(*command):
    """A driver's `call` for a program of ours, which reads its peer from the environment; see programs/README.md."""

    def call(message, peer, directory):
        words = [raw_file(message, directory), REVERSE_PATH, *message.forward_paths]
        return Call([*command, *words], environment=peer_environment(message, peer))

    return call


def peer_environment(message, peer):
    return {
        "SMTP_HOST": LOOPBACK,
        "SMTP_PORT": str(peer.port),
        "SMTP_TLS": peer.tls,
        "SMTP_CA": str(peer.certificate),
        "SMTP_USER": peer.user,
        "SMTP_PASSWORD": peer.password,
        "SMTP_EIGHT_BIT": "1" if message.eight_bit else "",
        "SMTP_HELLO": EHLO_NAME,
    }
