"""How long one message takes to the sink when nothing else is going on.

The smarthost is reached through a small forwarder in this process, which notes when octets pass. A client in the same
thread sends a message, notes when it has read the final 250, and waits until the conversation upstream is still: the
last octets from the smarthost are its own final 250. Nothing of the message has to be looked into, so this works for
TLS as well, and the forwarder's own delay is in all figures alike.
"""

import asyncio
import contextlib
import ssl
import time

from relay import FORWARD_PATH, LOOPBACK, REVERSE_PATH, Fault

# So long without an octet upstream means that the message is through. Postfix closes its connection in this time.
STILL_SECONDS = 0.15
PATIENCE_SECONDS = 20


class Forwarder:
    """Passes octets on between its port and another."""

    def __init__(self, target):
        self.target = target
        self.from_upstream = self.to_upstream = 0.0
        self.first_to_upstream = None
        self.tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.connected, LOOPBACK, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()

    async def connected(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            upstream = await asyncio.open_connection(LOOPBACK, self.target)
            await asyncio.gather(self.copy(reader, upstream[1], True), self.copy(upstream[0], writer, False))
            upstream[1].close()
        writer.close()

    async def copy(self, reader, writer, outwards):
        while octets := await reader.read(65536):
            now = time.perf_counter()
            if outwards:
                self.to_upstream = now
                self.first_to_upstream = self.first_to_upstream or now
            else:
                self.from_upstream = now
            writer.write(octets)
        writer.write_eof() if writer.can_write_eof() else None

    async def still(self):
        """When the last octets came from upstream, once nothing has come for a while."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while True:
            await asyncio.sleep(STILL_SECONDS / 5)
            now = time.perf_counter()
            last = max(self.from_upstream, self.to_upstream)
            if self.first_to_upstream and now - last >= STILL_SECONDS:
                return self.from_upstream
            if now > deadline:
                raise Fault("a message did not get to the smarthost: latency cannot be measured")


async def through(smtp_port, forwarder, messages, octets):
    """Milliseconds from the final 250 that the client reads to that of the smarthost, for each message."""
    found = []
    for _ in range(messages + 1):
        forwarder.first_to_upstream = None
        reader, writer = await asyncio.open_connection(LOOPBACK, smtp_port)
        await expect(reader, b"220")
        await exchange(reader, writer, b"HELO bench.example\r\n", b"250")
        await transaction(reader, writer, octets)
        accepted = time.perf_counter()
        writer.write(b"QUIT\r\n")
        found.append((await forwarder.still() - accepted) * 1000)
        writer.close()
    return found[1:]  # the first one had to connect


async def direct(forwarder, messages, octets, office365=None, token=None):
    """Milliseconds of a transaction straight with the smarthost, over a connection that is open."""
    reader, writer = await asyncio.open_connection(LOOPBACK, forwarder.port)
    await expect(reader, b"220")
    await exchange(reader, writer, b"EHLO bench.example\r\n", b"250")
    if office365:
        await exchange(reader, writer, b"STARTTLS\r\n", b"220")
        await writer.start_tls(ssl.create_default_context(cafile=office365["ca_file"]), server_hostname="localhost")
        await exchange(reader, writer, b"EHLO bench.example\r\n", b"250")
        await exchange(reader, writer, b"AUTH XOAUTH2 " + xoauth2(office365["mailbox"], token) + b"\r\n", b"235")
    found = []
    for _ in range(messages):
        begun = time.perf_counter()
        await transaction(reader, writer, octets)
        found.append((time.perf_counter() - begun) * 1000)
    writer.write(b"QUIT\r\n")
    writer.close()
    return found


def xoauth2(mailbox, token):
    import base64

    return base64.b64encode(f"user={mailbox}\x01auth=Bearer {token}\x01\x01".encode())


async def transaction(reader, writer, octets):
    await exchange(reader, writer, f"MAIL FROM:<{REVERSE_PATH}>\r\n".encode(), b"250")
    await exchange(reader, writer, f"RCPT TO:<{FORWARD_PATH}>\r\n".encode(), b"250")
    await exchange(reader, writer, b"DATA\r\n", b"354")
    header = f"From: <{REVERSE_PATH}>\r\nTo: <{FORWARD_PATH}>\r\nSubject: latency\r\n\r\n".encode()
    lines = b"x" * 78 + b"\r\n"
    await exchange(reader, writer, header + lines * (octets // len(lines)) + b".\r\n", b"250")


async def exchange(reader, writer, octets, code):
    writer.write(octets)
    await expect(reader, code)


async def expect(reader, code):
    async with asyncio.timeout(PATIENCE_SECONDS):
        line = await reader.readuntil(b"\r\n")
        while line[3:4] == b"-":
            line = await reader.readuntil(b"\r\n")
    if not line.startswith(code):
        raise Fault(f"reply {line!r} where {code!r} was expected")
