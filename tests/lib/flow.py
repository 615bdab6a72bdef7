"""A flow of mail for the fault tests: who sends it, what the relay has answered for, and what of it arrived.

Each message has an id of its own, and each line of its body shows that id and the line's number, so that a page which
is lost, old or of another message is seen. Only a final reply that was read counts as an answer.
"""

import asyncio
import hashlib
import itertools
import os
import random
import threading
import time
from collections import Counter

import mail_data
from relay import CANARY, FORWARD_PATH, LOOPBACK, POLL_SECONDS, REVERSE_PATH, Fault
from smtp_client import stuffed

LINE_OCTETS = 76
REPLY_SECONDS = 60
RECONNECT_SECONDS = 0.05
STOP_SECONDS = 20
# The relay keeps bodies above this in files.
SPILL_OCTETS = 64 * 1024
SMALL_OCTETS = 3_000
LARGE_OCTETS = 100_000


def message(identifier, octets):
    """Mail data of about that size."""
    header = (
        f"From: <{REVERSE_PATH}>\r\nTo: <{FORWARD_PATH}>\r\nSubject: {CANARY}\r\n"
        f"Date: Mon, 01 Jan 2024 10:00:00 +0000\r\nMessage-ID: <{identifier}@client.example>\r\n"
        f"X-Id: {identifier}\r\n\r\n.{CANARY}\r\n"
    )
    lines = max(1, (octets - len(header)) // (LINE_OCTETS + 2))
    return (header + "".join(f"{identifier} {n:06} ".ljust(LINE_OCTETS, "x") + "\r\n" for n in range(lines))).encode()


def mixed_size(chance):
    """Mostly small; one in eight goes to a body file."""
    if chance.random() < 0.125:
        return chance.randint(SPILL_OCTETS + 2_000, 2 * SPILL_OCTETS)
    return chance.randint(600, 8_000)


class Ledger:
    """What was sent, and what the relay answered. An id is used once: a second arrival of it is the relay's doing."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.numbers = itertools.count()  # clients may be threads
        self.digests = {}
        self.acknowledged = set()
        self.refused = {}
        self.replies = Counter()
        self.permanent = []

    def begin(self, octets):
        """A new message: its id and its mail data."""
        identifier = f"{self.prefix}-{next(self.numbers):06}"
        sent = message(identifier, octets)
        self.digests[identifier] = hashlib.sha256(sent).digest()
        return identifier, sent

    def refuse(self, identifier, reply):
        """A reply other than the one hoped for; `identifier` is None outside of a transaction."""
        self.replies[reply[:60]] += 1
        if identifier:
            self.refused[identifier] = reply
        if reply.startswith("5"):
            self.permanent.append(reply)

    def unanswered(self):
        """Messages which were begun and had no final reply."""
        return [name for name in self.digests if name not in self.acknowledged and name not in self.refused]

    def refusals(self):
        """The replies that refused mail, for people; at most five kinds."""
        return ", ".join(f"{times} x {text!r}" for text, times in self.replies.most_common(5)) or "none"


class Refused(Exception):
    """A reply with another code than expected."""


class Session:
    """One SMTP session of a Load."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def reply(self, code):
        async with asyncio.timeout(REPLY_SECONDS):
            line = await self.reader.readuntil(b"\r\n")
            while line[3:4] == b"-":
                line = await self.reader.readuntil(b"\r\n")
        if not line.startswith(str(code).encode()):
            raise Refused(line.decode(errors="replace").strip())
        return line

    async def exchange(self, octets, code):
        self.writer.write(octets)
        await self.writer.drain()
        return await self.reply(code)

    async def begin(self):
        await self.reply(220)
        await self.exchange(b"EHLO load.example\r\n", 250)

    async def transaction(self, ledger, octets):
        identifier, sent = ledger.begin(octets)
        try:
            await self.exchange(f"MAIL FROM:<{REVERSE_PATH}>\r\n".encode(), 250)
            await self.exchange(f"RCPT TO:<{FORWARD_PATH}>\r\n".encode(), 250)
            await self.exchange(b"DATA\r\n", 354)
            await self.exchange(stuffed(sent), 250)
        except Refused as refused:
            ledger.refuse(identifier, str(refused))
            raise
        ledger.acknowledged.add(identifier)


class Load:
    """Clients in a thread of their own which send until they are stopped; a context manager.

    A client that is refused or cut off connects again. `port` may change while they run. `may_send` holds them back.
    """

    def __init__(self, ledger, port, sessions, seed, *, size=mixed_size, most=None, pause=0.0, may_send=None):
        self.ledger = ledger
        self.port = port
        self.sessions = sessions
        self.seed = seed
        self.size = size
        self.most = most
        self.pause = pause
        self.may_send = may_send or (lambda: True)
        self.stopping = False
        self.fault = None
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def finish(self, seconds):
        """Waits until all messages have been sent; faults if that takes too long."""
        self.thread.join(seconds)
        slow = self.thread.is_alive()
        self.stop()
        if slow:
            raise Fault(f"{len(self.ledger.digests)} of {self.most} messages begun within {seconds} s")

    def stop(self):
        """Lets messages under way come to their end, for a while, and faults if a client of ours went wrong."""
        self.stopping = True
        if self.thread.is_alive():
            self.thread.join(STOP_SECONDS + 10)
        if self.fault:
            fault, self.fault = self.fault, None
            raise Fault(f"a client of the test broke: {fault!r}")

    def work(self):
        try:
            asyncio.run(self.run())
        except Exception as fault:  # Told by stop(), in the thread that can act on it.
            self.fault = fault

    async def run(self):
        tasks = [asyncio.create_task(self.session(number)) for number in range(self.sessions)]
        pending = set(tasks)
        while pending and not self.stopping:
            _, pending = await asyncio.wait(pending, timeout=POLL_SECONDS)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=STOP_SECONDS)
        for task in pending:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    def is_done(self):
        return self.stopping or (self.most is not None and len(self.ledger.digests) >= self.most)

    async def session(self, number):
        chance = random.Random(f"{self.seed}-{number}")
        while not self.is_done():
            try:
                await self.connection(chance)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.sleep(RECONNECT_SECONDS)
            except Refused:  # It is in the ledger.
                await asyncio.sleep(RECONNECT_SECONDS)

    async def connection(self, chance):
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        try:
            session = Session(reader, writer)
            try:
                await session.begin()
            except Refused as refused:
                self.ledger.refuse(None, str(refused))
                raise
            for _ in range(chance.randint(1, 20)):
                while not self.may_send() and not self.stopping:
                    await asyncio.sleep(POLL_SECONDS)
                if self.is_done():
                    return
                await session.transaction(self.ledger, self.size(chance))
                if self.pause:
                    await asyncio.sleep(chance.uniform(0, 2 * self.pause))
        finally:
            writer.close()


class Arrived:
    """Reads each arrival once: how often each id came, and which came changed.

    With `discard` the mail data goes once it has been read, and only the facts stay.
    """

    def __init__(self, arrivals, *ledgers, discard=False):
        self.discard = discard
        self.directory = arrivals.directory
        self.ledgers = ledgers
        self.seen = set()
        self.times = Counter()
        self.changed = []

    def look(self):
        """Reads what is new; returns how many messages there are."""
        names = {name for name in os.listdir(self.directory) if name.endswith(".json")}
        for name in sorted(names - self.seen):
            self.read((self.directory / name).with_suffix(".eml"))
        self.seen |= names
        return len(self.seen)

    def read(self, path):
        octets = path.read_bytes()
        fields, _ = mail_data.split_header(octets)
        identifier = (mail_data.field_value(fields, b"X-Id") or b"none").decode(errors="replace")
        self.times[identifier] += 1
        digest = next((ledger.digests[identifier] for ledger in self.ledgers if identifier in ledger.digests), None)
        body = mail_data.without_trace(octets)
        if body is None or hashlib.sha256(body).digest() != digest:
            self.changed.append(f"{identifier} in {path.name}")
        elif self.discard:
            path.unlink()

    def missing(self, identifiers):
        self.look()
        return sorted(identifier for identifier in identifiers if not self.times[identifier])

    def wait_for(self, identifiers, seconds, watched=()):
        """Waits until all of them are there, as long as one comes within `seconds` of the other; returns the rest."""
        last, since = -1, time.monotonic()
        while missing := self.missing(identifiers):
            for process in watched:
                process.check_alive("while mail was to arrive")
            if len(self.seen) != last:
                last, since = len(self.seen), time.monotonic()
            elif time.monotonic() - since > seconds:
                break
            time.sleep(0.1)
        return missing

    def duplicates(self):
        """Arrivals beyond the first, over all ids."""
        return sum(times - 1 for times in self.times.values())


class Checks:
    """Counts what passed and what failed, and says so at once."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, good, title, detail=""):
        self.passed += bool(good)
        self.failed += not good
        mark = "ok    " if good else "FAILED"
        print(f"{mark} {title}{': ' + detail if detail else ''}")
        return good

    def nothing_lost(self, title, ledger, arrived, identifiers=None, seconds=30, watched=()):
        """All acknowledged messages arrive, and whatever arrives is whole."""
        wanted = ledger.acknowledged if identifiers is None else identifiers
        lost = arrived.wait_for(wanted, seconds, watched)
        detail = f"{len(wanted)} acknowledged, {len(lost)} lost, {arrived.duplicates()} duplicates"
        if lost:
            detail += f"; lost: {', '.join(lost[:5])}"
        if arrived.changed:
            detail += f"; CHANGED: {', '.join(arrived.changed[:5])}"
        return self.that(not lost and not arrived.changed, title, detail)

    def close(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def seeded(parser):
    """The option that makes a run repeatable as far as the machine allows."""
    parser.add_argument("--seed", type=int, default=1, help="seed of all choices by chance (default: 1)")
    return parser


# The relay's own words, and those of a program that has not got as far as its log.
PANICS = ("fault of o365-relay itself, please report it", "panicked at")


def panics(log):
    """The lines of this log that tell of a panic."""
    return [line for line in log.splitlines() if any(words in line for words in PANICS)]


def no_panic(checks, title, process):
    """The log of a relay has no panic in it."""
    lines = panics(process.log_path.read_text(errors="replace"))
    return checks.that(not lines, f"{title}: no panic in the log", lines[0][:200] if lines else "")
