"""A small strict SMTP server that records what a client puts on the wire; the yardstick for tests/clients/run.

It knows no mail library: it splits commands at CRLF, ends mail data at CRLF.CRLF only, and takes away the one
leading dot of a line, as RFC 5321 section 4.5.2 says. It offers the EHLO keywords it is told to offer, so that
a client behaves towards it as it does towards the relay.
"""

import asyncio
import re
import threading
from dataclasses import dataclass, field

PATH = re.compile(rb"^(?:MAIL FROM|RCPT TO):<([^>]*)>", re.IGNORECASE)
BLOCK = 256 * 1024


@dataclass
class Transaction:
    """One mail transaction as it came in."""

    reverse_path: str
    eight_bit: bool = False
    forward_paths: list = field(default_factory=list)
    mail_data: bytes = b""


class ClientGone(Exception):
    """The client closed the connection."""


class Connection:
    """One session: reads commands from a buffer, answers, and hands finished transactions on."""

    def __init__(self, reader, writer, keywords, record):
        self.reader = reader
        self.writer = writer
        self.keywords = keywords
        self.record = record
        self.buffer = bytearray()
        self.transaction = None

    async def serve(self):
        self.reply("220 recorder.example ESMTP")
        try:
            while await self.step(await self.line()):
                pass
        except (ClientGone, ConnectionError):
            pass
        finally:
            self.writer.close()

    def reply(self, *lines):
        self.writer.write("".join(line + "\r\n" for line in lines).encode())

    async def more(self):
        await self.writer.drain()
        octets = await self.reader.read(BLOCK)
        if not octets:
            raise ClientGone
        self.buffer += octets

    async def take_until(self, end):
        """The octets up to and including `end`, taken out of the buffer."""
        searched = 0
        while (found := self.buffer.find(end, searched)) < 0:
            searched = max(0, len(self.buffer) - len(end))
            await self.more()
        return self.take(found + len(end))

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    async def line(self):
        return (await self.take_until(b"\r\n"))[:-2]

    async def step(self, command):
        """Answers one command; false when the session is over."""
        verb = command.split(b" ", 1)[0].upper()
        if verb == b"QUIT":
            self.reply("221 2.0.0 bye")
            await self.writer.drain()
            return False
        if verb == b"EHLO":
            self.transaction = None
            lines = ["recorder.example", *self.keywords]
            self.reply(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
        elif verb == b"MAIL":
            self.mail(PATH.match(command), b"BODY=8BITMIME" in command.upper().split())
        elif verb == b"RCPT":
            self.rcpt(PATH.match(command))
        elif verb == b"DATA":
            await self.data()
        elif verb == b"BDAT":
            await self.bdat(command.upper().split()[1:])
        elif verb in (b"HELO", b"RSET", b"NOOP"):
            self.transaction = None if verb != b"NOOP" else self.transaction
            self.reply("250 2.0.0 ok")
        else:
            self.reply("500 5.5.1 not known here")
        return True

    def mail(self, path, eight_bit):
        if path is None:
            self.reply("501 5.5.4 no reverse-path")
            return
        self.transaction = Transaction(path.group(1).decode(), eight_bit)
        self.reply("250 2.1.0 ok")

    def rcpt(self, path):
        if path is None or self.transaction is None:
            self.reply("503 5.5.1 no MAIL, or no forward-path")
            return
        self.transaction.forward_paths.append(path.group(1).decode())
        self.reply("250 2.1.5 ok")

    async def data(self):
        if self.transaction is None or not self.transaction.forward_paths:
            self.reply("503 5.5.1 no RCPT")
            return
        self.reply("354 go on")
        await self.writer.drain()
        # A final dot may follow the DATA line at once: the CRLF of that line is put back for the search.
        self.buffer[:0] = b"\r\n"
        stuffed = await self.take_until(b"\r\n.\r\n")
        lines = stuffed[: -len(b".\r\n")].replace(b"\r\n.", b"\r\n")
        self.finish(lines[len(b"\r\n") :])

    async def bdat(self, words):
        if self.transaction is None or not self.transaction.forward_paths:
            self.reply("503 5.5.1 no RCPT")
            return
        size = int(words[0])
        while len(self.buffer) < size:
            await self.more()
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


class Recorder:
    """Runs the server in a thread of its own; a context manager."""

    def __init__(self, keywords):
        self.keywords = keywords
        self.transactions = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        start = asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.server = asyncio.run_coroutine_threadsafe(start, self.loop).result(10)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def accept(self, reader, writer):
        await Connection(reader, writer, self.keywords, self.transactions.append).serve()

    def take(self):
        """The transactions since the last call."""
        taken, self.transactions[:] = list(self.transactions), []
        return taken
