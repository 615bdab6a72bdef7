"""A small strict SMTP server that records what a client puts on the wire; the yardstick for tests/clients/run.

It knows no mail library: it splits commands at CRLF, ends mail data at CRLF.CRLF only, and takes away the one
leading dot of a line, as RFC 5321 section 4.5.2 says. It offers the EHLO keywords it is told to offer, so that
a client behaves towards it as it does towards the relay. Where TLS or a login is asked for, it takes no mail without.
"""

import base64
import re
import socket
import ssl
import threading
from dataclasses import dataclass, field

BLOCK = 256 * 1024
IDLE_SECONDS = 120
PATH = re.compile(rb"^(?:MAIL FROM|RCPT TO):<([^>]*)>", re.IGNORECASE)
# What devices send instead: blanks behind the colon, and no brackets.
LOOSE_PATH = re.compile(rb"^(?:MAIL FROM|RCPT TO):\s*<?([^>\s]*)>?", re.IGNORECASE)


@dataclass(frozen=True)
class Manners:
    """What the recorder offers and asks for.

    `tls` is "none", "starttls" or "implicit", the latter two with a server-side `context`; `login` is a pair of user
    and password. A `loose` one takes paths without brackets and commands that end in LF; its mail data is as strict.
    """

    keywords: tuple = ()
    tls: str = "none"
    context: ssl.SSLContext | None = None
    login: tuple | None = None
    loose: bool = False


@dataclass
class Transaction:
    """One mail transaction as it came in."""

    reverse_path: str
    eight_bit: bool = False
    extended: bool = False
    forward_paths: list = field(default_factory=list)
    mail_data: bytes = b""


class ClientGone(Exception):
    """The client closed the connection."""


class Connection:
    """One session: reads commands from a buffer, answers, and hands finished transactions on."""

    def __init__(self, connection, manners, record):
        self.socket = connection
        self.manners = manners
        self.record = record
        self.buffer = bytearray()
        self.transaction = None
        self.secured = False
        self.extended = False
        self.logged_in = False

    def serve(self):
        self.socket.settimeout(IDLE_SECONDS)
        try:
            if self.manners.tls == "implicit":
                self.secure()
            self.reply("220 recorder.example ESMTP")
            while self.step(self.line()):
                pass
        except (ClientGone, OSError):
            pass
        finally:
            self.socket.close()

    def secure(self):
        self.socket = self.manners.context.wrap_socket(self.socket, server_side=True)
        self.secured = True

    def reply(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode())

    def more(self):
        octets = self.socket.recv(BLOCK)
        if not octets:
            raise ClientGone
        self.buffer += octets

    def take_until(self, end):
        """The octets up to and including `end`, taken out of the buffer."""
        searched = 0
        while (found := self.buffer.find(end, searched)) < 0:
            searched = max(0, len(self.buffer) - len(end))
            self.more()
        return self.take(found + len(end))

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def line(self):
        if self.manners.loose:
            return self.take_until(b"\n").rstrip(b"\r\n")
        return self.take_until(b"\r\n")[:-2]

    def step(self, command):
        """Answers one command; false when the session is over."""
        verb, _, words = command.partition(b" ")
        verb = verb.upper()
        if verb == b"QUIT":
            self.reply("221 2.0.0 bye")
            return False
        if verb in (b"EHLO", b"HELO"):
            self.extended = verb == b"EHLO"
        if verb == b"EHLO":
            self.transaction = None
            lines = ["recorder.example", *self.keywords()]
            self.reply(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
        elif verb == b"STARTTLS" and self.manners.tls == "starttls" and not self.secured:
            return self.start_tls()
        elif verb == b"AUTH" and self.manners.login:
            self.auth(words)
        elif verb == b"MAIL":
            self.mail(command)
        elif verb == b"RCPT":
            self.rcpt(self.path(command))
        elif verb == b"DATA":
            self.data()
        elif verb == b"BDAT":
            self.bdat(words.upper().split())
        elif verb in (b"HELO", b"RSET", b"NOOP"):
            self.transaction = None if verb != b"NOOP" else self.transaction
            self.reply("250 2.0.0 ok")
        else:
            self.reply("500 5.5.1 not known here")
        return True

    def keywords(self):
        if self.manners.tls == "starttls" and not self.secured:
            return [*self.manners.keywords, "STARTTLS"]
        return [*self.manners.keywords, "AUTH PLAIN LOGIN"] if self.manners.login else self.manners.keywords

    def start_tls(self):
        """False when the client sent more before the handshake: nothing of that may be believed."""
        if self.buffer:
            return False
        self.reply("220 2.0.0 go on")
        self.secure()
        self.extended = False  # what was said before counts no more
        return True

    def auth(self, words):
        mechanism, *initial = words.split()
        if mechanism.upper() == b"PLAIN":
            answer = decoded(initial[0]) if initial else self.challenge(b"")
            given = answer.split(b"\0")[1:]
        elif mechanism.upper() == b"LOGIN":
            user = decoded(initial[0]) if initial else self.challenge(b"Username:")
            given = [user, self.challenge(b"Password:")]
        else:
            self.reply("504 5.5.4 not offered")
            return
        self.logged_in = given == [word.encode() for word in self.manners.login]
        self.reply("235 2.7.0 welcome" if self.logged_in else "535 5.7.8 not this user and password")

    def challenge(self, text):
        self.reply("334 " + base64.b64encode(text).decode())
        return decoded(self.line())

    def path(self, command):
        return (LOOSE_PATH if self.manners.loose else PATH).match(command)

    def mail(self, command):
        path = self.path(command)
        if self.manners.tls != "none" and not self.secured:
            self.reply("530 5.7.0 STARTTLS first")
        elif self.manners.login and not self.logged_in:
            self.reply("530 5.7.0 AUTH first")
        elif path is None:
            self.reply("501 5.5.4 no reverse-path")
        else:
            self.transaction = Transaction(
                path.group(1).decode(), b"BODY=8BITMIME" in command.upper().split(), self.extended
            )
            self.reply("250 2.1.0 ok")

    def rcpt(self, path):
        if path is None or self.transaction is None:
            self.reply("503 5.5.1 no MAIL, or no forward-path")
            return
        self.transaction.forward_paths.append(path.group(1).decode())
        self.reply("250 2.1.5 ok")

    def data(self):
        if self.transaction is None or not self.transaction.forward_paths:
            self.reply("503 5.5.1 no RCPT")
            return
        self.reply("354 go on")
        # A final dot may follow the DATA line at once: the CRLF of that line is put back for the search.
        self.buffer[:0] = b"\r\n"
        stuffed = self.take_until(b"\r\n.\r\n")
        lines = stuffed[: -len(b".\r\n")].replace(b"\r\n.", b"\r\n")
        self.finish(lines[len(b"\r\n") :])

    def bdat(self, words):
        if self.transaction is None or not self.transaction.forward_paths:
            self.reply("503 5.5.1 no RCPT")
            return
        size = int(words[0])
        while len(self.buffer) < size:
            self.more()
        self.transaction.mail_data += self.take(size)
        if words[1:] == [b"LAST"]:
            self.finish(self.transaction.mail_data)
        else:
            self.reply("250 2.0.0 chunk")

    def finish(self, mail_data):
        self.transaction.mail_data = mail_data
        self.record(self.transaction)
        self.transaction = None
        self.reply("250 2.0.0 recorded")


def decoded(word):
    return base64.b64decode(word) if word != b"=" else b""


class Recorder:
    """Runs the server, with a thread for each session; a context manager."""

    def __init__(self, manners):
        self.manners = manners
        self.transactions = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # A close alone would leave the thread in accept().
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            session = Connection(connection, self.manners, self.transactions.append)
            threading.Thread(target=session.serve, daemon=True).start()
