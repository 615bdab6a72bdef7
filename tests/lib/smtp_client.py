"""A plain SMTP client over one socket, for tests which must know exactly what they send and what they have read."""

from connection import connect
from relay import FORWARD_PATH, REVERSE_PATH, Fault

SECONDS = 120


class SmtpClient:
    """One session; a context manager. Commands go out as given, replies come back as (code, lines)."""

    def __init__(self, port, *, tls=False):
        self.socket = connect(port, SECONDS, tls=tls)
        self.replies = self.socket.makefile("rb")
        self.expect(220)
        self.send(b"EHLO client.example\r\n")
        self.keywords = [line[4:].decode() for line in self.expect(250)[1:]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replies.close()
        self.socket.close()

    def send(self, octets):
        self.socket.sendall(octets)

    def read_reply(self):
        lines = []
        while True:
            line = self.replies.readline().rstrip(b"\r\n")
            if not line:
                raise Fault(f"the relay closed the connection; replies until then: {lines}")
            lines.append(line)
            if line[3:4] != b"-":
                return int(line[:3]), lines

    def expect(self, code):
        got, lines = self.read_reply()
        if got != code:
            raise Fault(f"reply {lines[-1].decode(errors='replace')!r} where {code} was expected")
        return lines

    def transaction(self, mail_data, reverse_path=REVERSE_PATH):
        """One mail transaction, command by command; returns after the final reply was read."""
        for command, code in (
            (f"MAIL FROM:<{reverse_path}>", 250),
            (f"RCPT TO:<{FORWARD_PATH}>", 250),
            ("DATA", 354),
        ):
            self.send(command.encode() + b"\r\n")
            self.expect(code)
        self.send(stuffed(mail_data))
        return self.expect(250)

    def quit(self):
        self.send(b"QUIT\r\n")
        self.expect(221)


def stuffed(mail_data):
    """Mail data as it goes over the wire: with stuffed dots and the final dot. It must end in CRLF."""
    return (b"\r\n" + mail_data).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
