"""Speaks SMTP as a device with simple firmware does: DIALECT FILE REVERSE-PATH FORWARD-PATH...; see README.md.

telnet   no EHLO or HELO, commands that end in a bare LF, one at a time
old      HELO and verbs in lower case, a space behind the colon, no brackets, and pauses between octets
"""

import socket
import sys
import time
from base64 import b64encode
from os import environ
from pathlib import Path

PAUSE_SECONDS = 0.001


class Device:
    """A session in one dialect: how commands are written, and how their octets leave."""

    def __init__(self, dialect, connection):
        self.old = dialect == "old"
        self.line_end = b"\r\n" if self.old else b"\n"
        self.connection = connection
        self.replies = connection.makefile("rb")

    def say(self, command, code):
        line = command.encode() + self.line_end
        for at in range(len(line)) if self.old else ():
            self.connection.sendall(line[at : at + 1])
            time.sleep(PAUSE_SECONDS)
        if not self.old:
            self.connection.sendall(line)
        self.hear(command, code)

    def hear(self, what, code):
        line = self.replies.readline()
        while line[3:4] == b"-":
            line = self.replies.readline()
        if line[:3] != str(code).encode():
            sys.exit(f"{what!r} was answered with {line!r}")

    def verb(self, word):
        return word.lower() if self.old else word

    def path(self, address):
        return f" {address}" if self.old else f"<{address}>"


def stuffed(mail_data):
    return (b"\r\n" + mail_data).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def send(dialect, file, reverse_path, *forward_paths):
    connection = socket.create_connection((environ["SMTP_HOST"], int(environ["SMTP_PORT"])), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    device = Device(dialect, connection)
    device.hear("connection", 220)
    if device.old:
        device.say("helo " + environ["SMTP_HELLO"], 250)
    if environ["SMTP_USER"]:
        device.say(device.verb("AUTH LOGIN"), 334)
        device.say(b64encode(environ["SMTP_USER"].encode()).decode(), 334)
        device.say(b64encode(environ["SMTP_PASSWORD"].encode()).decode(), 235)
    device.say(device.verb("MAIL FROM:") + device.path(reverse_path), 250)
    for forward_path in forward_paths:
        device.say(device.verb("RCPT TO:") + device.path(forward_path), 250)
    device.say(device.verb("DATA"), 354)
    device.connection.sendall(stuffed(Path(file).read_bytes()))
    device.hear("mail data", 250)
    device.say(device.verb("QUIT"), 221)


send(*sys.argv[1:])
