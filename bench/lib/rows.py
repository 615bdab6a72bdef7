"""What is measured. Each measurement gets a Bench and returns rows; relay and Postfix take turns, round by round."""

import asyncio
import json
import os
import re
import ssl
import time
import tomllib
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import latency
import load
import postfix
import relay
import shim
from processes import cpu_seconds, peak_kib, resident_kib
from report import Row

KIB = 1024
MIB = 1024 * 1024
SETTLE_SECONDS = 0.3
DRAIN_SECONDS = 120
DELAY_US = 2000
BURST = 20_000
LARGE_SESSIONS, LARGE_OCTETS = 50, 25 * MIB
# The relay's own limits must not end a run.
ROOMY = ("queue.max_messages=10000000",)


@dataclass
class Bench:
    """How it is measured, and where."""

    binary: Path
    rounds: int
    seconds: float
    connections: int
    place: Path
    with_postfix: bool = True
    quick: bool = False
    numbers: dict = field(default_factory=dict)

    def workplace(self, name):
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        return relay.Workplace(f"bench/{name}-{number}")

    def postfix_directory(self, workplace):
        return workplace.make("postfix")


@dataclass
class System:
    """One of those that are compared: where it takes mail, what it has cost so far, whether it has passed on all."""

    name: str
    process: relay.Process
    port: int
    cpu: object = None
    is_drained: object = None
    rates: list = field(default_factory=list)
    costs: list = field(default_factory=list)


# Systems


def start_relay(
    bench, workplace, office365, *, upstream_is_up, settings=(), wrapper=(), log_name="relay", queue="queue"
):
    process = relay.Relay(
        bench.binary,
        workplace,
        office365,
        queue=queue,
        log_name=log_name,
        log_format="text",
        log_level="info",
        upstream_is_up=upstream_is_up,
        settings=(*ROOMY, *settings),
        wrapper=wrapper,
    )
    return process


def relay_system(process, drained=None):
    return System("relay", process, process.smtp_port, lambda: cpu_seconds(process.pid), drained)


def postfix_system(process):
    return System("postfix", process, process.smtp_port, process.cpu_seconds, process.queue_is_empty)


NOWHERE = """[office365]
tenant_id = "sandbox.example"
client_id = "c1e47a52-6d3b-4f89-8a2e-0b9d5f7c3e61"
client_secret = "none"
mailbox = "relay@sandbox.example"
smtp_host = "localhost"
smtp_port = 1
login_url = "https://localhost:1"
"""


@contextmanager
def accepting(bench, name, *, delayed=False, deferred=False):
    """Relay and Postfix with the way out closed, and smtp-sink as the limit."""
    workplace = bench.workplace(name)
    with ExitStack() as stack:
        wrapper = shim.wrapper(workplace, bench.binary, SHIM_SYNC_DELAY_US=DELAY_US) if delayed else ()
        ours = start_relay(bench, workplace, NOWHERE, upstream_is_up=False, wrapper=wrapper)
        systems = [relay_system(stack.enter_context(ours))]
        if bench.with_postfix:
            settings = postfix.DEFERRED if deferred else postfix.HELD
            directory = bench.postfix_directory(workplace)
            process = postfix.Postfix(workplace, directory, settings, wrapper=wrapper)
            systems.append(postfix_system(stack.enter_context(process)))
        yield workplace, systems


# Accepting


def accept(bench, *, sessions, octets, reuse, delayed=False):
    """One row: messages a second, and what they cost."""
    size = "1 MiB" if octets == MIB else "4 KiB"
    kind = "reused connections" if reuse else "a connection each"
    name = f"accept-{sessions}-{'1m' if octets == MIB else '4k'}-{'reused' if reuse else 'new'}"
    title = f"accept, {sessions} session{'s' * (sessions > 1)}, {size}, {kind}"
    row = Row(name, title, "msg/s")
    cost = Row(f"{name}-cpu", f"processor time of the above per 1,000, {title}", "s", lower_is_better=True)
    if delayed:
        row.name, row.title = f"{name}-delay", f"{title}, syncs 2 ms slower"
    with accepting(bench, row.name, delayed=delayed) as (workplace, systems), load.Sink(workplace) as sink:
        if not delayed:
            systems.append(System("sink", sink, sink.smtp_port, lambda: 0.0))
        disk = []
        for system in systems:
            send(system, max(20, 4 * sessions) if octets == MIB else 200, sessions, octets, reuse, 0)
        for turn in range(bench.rounds):
            for system in systems if turn % 2 == 0 else systems[::-1]:
                messages = planned(system, bench.seconds, sessions, 4 if octets == MIB else 100)
                send(system, messages, sessions, octets, reuse, turn + 1)
                if sessions == 1 and octets != MIB and system.name == "relay":
                    disk.append(load.fdatasync_rate(workplace.directory, 0.5, DELAY_US if delayed else 0))
    figures = {system.name: system for system in systems}
    row.relay = figures["relay"].rates[1:]
    cost.relay = figures["relay"].costs[1:]
    if "postfix" in figures:
        row.postfix, cost.postfix = figures["postfix"].rates[1:], figures["postfix"].costs[1:]
        if octets != MIB and not delayed:
            row.least_ratio = 5 if sessions == 1 else 7
    rows = [row]
    if disk:
        row.limit, row.limit_name, row.least_part_of_limit = disk, "disk", 0.7
        row.note = "limit: appends of 4 KiB a second with an fdatasync each, one writer, taken right after each round"
    if not delayed:
        to_sink = figures["sink"].rates[1:]
        if octets == MIB:
            row.limit, row.limit_name, row.least_part_of_limit = to_sink, "sink", 0.8
            row.note = "limit: smtp-source straight into smtp-sink"
        else:
            rows.append(Row(f"{name}-sink", f"(limit) smtp-source into smtp-sink, {title[8:]}", "msg/s", to_sink))
            rows.append(cost)
    return rows


def planned(system, seconds, sessions, least):
    """How many messages take about that long."""
    return max(int(system.rates[-1] * seconds), least, sessions)


def send(system, messages, sessions, octets, reuse, turn):
    """One measurement; the first of a system warms up and is dropped later."""
    before = system.cpu()
    seconds = load.smtp_source(system.port, messages, sessions, octets, reuse=reuse, watched=system.process)
    if system.is_drained is None or turn == 0:
        time.sleep(0.05)
    system.rates.append(messages / seconds)
    system.costs.append((system.cpu() - before) / messages * 1000)


# End to end


class CountingSandbox(relay.Sandbox):
    """Counts what arrives, and takes any number of connections."""

    def __init__(self, bench, workplace):
        (self.control_port,) = relay.free_ports(1)
        words = ["--max-connections", "unlimited", "--control", f"{relay.LOOPBACK}:{self.control_port}"]
        super().__init__(bench.binary, workplace, words, save=False)
        self.section = tomllib.loads(self.office365)["office365"]
        self.smtp_port = self.section["smtp_port"]

    def count(self):
        with urllib.request.urlopen(f"http://{relay.LOOPBACK}:{self.control_port}/arrivals", timeout=30) as reply:
            return json.load(reply)["count"]

    def token(self):
        """An access token, as a client that is no relay of ours would get it."""
        section = self.section
        form = {
            "grant_type": "client_credentials",
            "client_id": section["client_id"],
            "client_secret": section.get("client_secret") or Path(section["client_secret_file"]).read_text().strip(),
            "scope": section["scope"],
        }
        url = f"{section['login_url']}/{section['tenant_id']}/oauth2/v2.0/token"
        trust = ssl.create_default_context(cafile=section["ca_file"])
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=10, context=trust) as reply:
            return json.load(reply)["access_token"]

    def pointing_to(self, port):
        """The relay's section, by way of a forwarder."""
        return re.sub(r"(?m)^smtp_port = .*$", f"smtp_port = {port}", self.office365)


def relayed(system, messages, octets, sessions, expected):
    """Sends, and waits until everything has gone; returns messages a second and processor seconds per 1,000."""
    before, begun = system.cpu(), time.perf_counter()
    load.smtp_source(system.port, messages, sessions, octets, reuse=False, watched=system.process)
    relay.wait_until(f"{messages} messages at the sink", system.is_drained, DRAIN_SECONDS, [system.process])
    seconds = time.perf_counter() - begun
    time.sleep(SETTLE_SECONDS)
    expected(messages)
    system.rates.append(messages / seconds)
    system.costs.append((system.cpu() - before) / messages * 1000)


def end_to_end(bench, *, secured):
    """Rate and processor time of the whole job. `secured`: Postfix, too, uses STARTTLS and XOAUTH2."""
    name = "xoauth2" if secured else "end-to-end"
    title = "STARTTLS + XOAUTH2 upstream" if secured else "end to end"
    rate = Row(name, f"{title}, 10 sessions, 4 KiB", "msg/s", least_ratio=5 if secured else 6)
    cost = Row(f"{name}-cpu", f"processor time per 1,000, {title}", "s", lower_is_better=True)
    cost.least_ratio = 5 if secured else 8
    sink_cost = Row(f"{name}-sandbox-cpu", f"(of the sandbox, per 1,000, {title})", "s", lower_is_better=True)
    workplace, wrapper = bench.workplace(name), ()
    with ExitStack() as stack:
        sandbox = stack.enter_context(CountingSandbox(bench, workplace))
        limit = f"office365.max_connections={bench.connections}"
        ours = start_relay(bench, workplace, sandbox.office365, upstream_is_up=True, settings=(limit,))
        systems = [relay_system(stack.enter_context(ours))]
        arrived = {"relay": 0}
        systems[0].is_drained = lambda: sandbox.count() >= arrived["relay"]
        if bench.with_postfix:
            directory = bench.postfix_directory(workplace)
            if secured:
                settings = postfix.to_sandbox(directory, sandbox.section, sandbox.token(), bench.connections)
                wrapper = postfix.sasl_plugin(workplace)
            else:
                settings = postfix.to_sink(stack.enter_context(load.Sink(workplace)).smtp_port)
            process = postfix.Postfix(workplace, directory, settings, wrapper=wrapper)
            systems.append(postfix_system(stack.enter_context(process)))
        for turn in range(bench.rounds + 1):
            for system in systems if turn % 2 == 0 else systems[::-1]:
                messages = 300 if turn == 0 else planned(system, bench.seconds, 10, 200)
                counted = system.name == "relay" or secured
                before, sink_before = sandbox.count(), cpu_seconds(sandbox.pid)
                arrived["relay"] = before + messages
                relayed(system, messages, 4096, 10, checker(sandbox, before) if counted else lambda _: None)
                if counted and turn:
                    figures = sink_cost.relay if system.name == "relay" else sink_cost.postfix
                    figures.append((cpu_seconds(sandbox.pid) - sink_before) / messages * 1000)
        ours.check_alive("after the run")
    rate.relay, cost.relay = systems[0].rates[1:], systems[0].costs[1:]
    if bench.with_postfix:
        rate.postfix, cost.postfix = systems[1].rates[1:], systems[1].costs[1:]
    to = f"at most {bench.connections} connections upstream"
    rate.note = (
        f"{to}; both to the sandbox"
        if secured
        else f"the relay with STARTTLS + XOAUTH2 to the sandbox ({to}), as it knows no other way; Postfix in plain, "
        "without a login, to smtp-sink, with its own number of connections"
    )
    return [rate, cost, sink_cost]


def checker(sandbox, before):
    """Faults unless all messages arrived, once each."""

    def check(messages):
        arrived = sandbox.count() - before
        if arrived != messages:
            raise relay.Fault(f"{arrived} of {messages} messages arrived at the sandbox")

    return check


# Latency


def one_message(bench, *, secured):
    """Milliseconds from the client's 250 to that of the smarthost, and the smarthost's own time."""
    return asyncio.run(one_message_on_its_way(bench, secured))


async def one_message_on_its_way(bench, secured):
    name = "latency-xoauth2" if secured else "latency"
    title = "STARTTLS + XOAUTH2" if secured else "Postfix in plain"
    row = Row(name, f"one message alone, client's 250 to smarthost's 250 ({title})", "ms", lower_is_better=True)
    added = Row(f"{name}-added", f"of that, above the smarthost's own time ({title})", "ms", lower_is_better=True)
    row.by_rounds = added.has_ratio = False
    added.most = 2
    workplace, wrapper = bench.workplace(name), ()
    messages = 10 if bench.quick else 40
    with ExitStack() as stack:
        sandbox = stack.enter_context(CountingSandbox(bench, workplace))
        async with latency.Forwarder(sandbox.smtp_port) as forwarder:
            own = await latency.direct(forwarder, messages, 4096, sandbox.section, sandbox.token())
            ours = start_relay(bench, workplace, sandbox.pointing_to(forwarder.port), upstream_is_up=True)
            with ours:
                row.relay = await latency.through(ours.smtp_port, forwarder, messages, 4096)
            middle = sorted(own)[len(own) // 2]
            added.relay = [whole - middle for whole in row.relay]
        if bench.with_postfix:
            target = sandbox.smtp_port if secured else stack.enter_context(load.Sink(workplace)).smtp_port
            async with latency.Forwarder(target) as forwarder:
                directory = bench.postfix_directory(workplace)
                if secured:
                    wrapper = postfix.sasl_plugin(workplace)
                    section = {**sandbox.section, "smtp_port": forwarder.port}
                    settings = postfix.to_sandbox(directory, section, sandbox.token(), bench.connections)
                    theirs = own
                else:
                    settings = postfix.to_sink(forwarder.port)
                    theirs = await latency.direct(forwarder, messages, 4096)
                with postfix.Postfix(workplace, directory, settings, wrapper=wrapper) as process:
                    row.postfix = await latency.through(process.smtp_port, forwarder, messages, 4096)
                middle = sorted(theirs)[len(theirs) // 2]
                added.postfix = [whole - middle for whole in row.postfix]
    added.note = "the smarthost's own time is that of a transaction straight with it over an open connection"
    return [row, added]


# Starting


def start(bench):
    """Milliseconds from the start to the first greeting."""
    row = Row("start", "start to first greeting, empty queue", "ms", lower_is_better=True, most=30)
    workplace = bench.workplace("start")
    for turn in range(2 * bench.rounds + 1):
        found = started(lambda: start_relay(bench, workplace, NOWHERE, upstream_is_up=False))
        row.relay += [found] if turn else []
        if bench.with_postfix:
            directory = bench.postfix_directory(workplace)
            found = started(lambda: postfix.Postfix(workplace, directory, postfix.HELD))  # noqa: B023
            row.postfix += [found] if turn else []
    return [row]


def started(begin):
    """The constructors return when they have read a greeting."""
    poll, relay.POLL_SECONDS = relay.POLL_SECONDS, 0.001
    try:
        begun = time.perf_counter()
        process = begin()
        taken = (time.perf_counter() - begun) * 1000
    finally:
        relay.POLL_SECONDS = poll
    process.stop()
    return taken


# Memory, and long queues


def read_anew(binary):
    """Has a binary read from the disk, as an installed one is: of one that has just been written more is mapped."""
    os.sync()
    with open(binary, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def idle_memory(bench):
    """Resident memory of a fresh relay, and after a burst that has been relayed."""
    idle = Row("memory-idle", "resident memory, idle", "MiB", lower_is_better=True, most=9)
    under = Row("memory-load", "resident memory under load, 50 sessions, 4 KiB (largest)", "MiB", lower_is_better=True)
    burst = 2_000 if bench.quick else BURST
    after = Row("memory-burst", f"resident memory after a burst of {burst:,} messages", "MiB", lower_is_better=True)
    after.most = 25
    workplace = bench.workplace("memory")
    read_anew(bench.binary)
    with ExitStack() as stack:
        sandbox = stack.enter_context(CountingSandbox(bench, workplace))
        limit = f"office365.max_connections={bench.connections}"
        start = partial(start_relay, bench, workplace, sandbox.office365, upstream_is_up=True, settings=(limit,))
        for _ in range(bench.rounds):
            with start() as ours:
                time.sleep(2)
                idle.relay.append(resident_kib(ours.pid) / 1024)
        ours = stack.enter_context(start())
        load.smtp_source(ours.smtp_port, burst, 50, 4096, reuse=False, watched=ours)
        relay.wait_until("the burst at the sink", lambda: sandbox.count() >= burst, DRAIN_SECONDS, [ours])
        under.relay = [peak_kib(ours.pid) / 1024]
        time.sleep(5)
        after.relay = [resident_kib(ours.pid) / 1024]
        if bench.with_postfix:
            directory = bench.postfix_directory(workplace)
            settings = postfix.to_sink(stack.enter_context(load.Sink(workplace)).smtp_port)
            process = stack.enter_context(postfix.Postfix(workplace, directory, settings))
            idle.postfix = [process.resident_kib() / 1024]
            load.smtp_source(process.smtp_port, 500, 50, 4096, reuse=False, watched=process)
            under.postfix = [process.resident_kib() / 1024]
    idle.note = "Postfix: all its processes, shared pages counted once"
    return [idle, under, after]


def large_messages(bench):
    """Resident memory with 50 messages of 25 MB at the same time."""
    row = Row("memory-large", "resident memory, 50 messages of 25 MiB at a time (largest)", "MiB", most=64)
    row.lower_is_better = True
    workplace = bench.workplace("memory-large")
    with start_relay(bench, workplace, NOWHERE, upstream_is_up=False) as ours:
        load.smtp_source(ours.smtp_port, LARGE_SESSIONS, LARGE_SESSIONS, LARGE_OCTETS, reuse=False, watched=ours)
        row.relay = [peak_kib(ours.pid) / 1024]
    return [row]


def long_queue(bench, *, messages, with_postfix=True):
    """Start, memory, rate and the first page of a queue listing with so many messages queued."""
    title = f"{messages:,} queued"
    memory = Row(f"queued-{messages}", f"resident memory, {title}", "MiB", lower_is_better=True)
    first = Row(f"queued-{messages}-start", f"start to first greeting, {title}", "ms", lower_is_better=True)
    rate = Row(f"queued-{messages}-accept", f"accept, 10 sessions, 4 KiB, {title} (limit: empty queue)", "msg/s")
    page = Row(f"queued-{messages}-list", f"`queue list --limit 50`, {title}", "ms", lower_is_better=True)
    if messages >= 100_000:
        memory.most, rate.least_part_of_limit, page.most = 25, 0.8, 50
    if messages == 100_000:
        first.most = 300
    workplace = bench.workplace(f"queued-{messages}")
    with start_relay(bench, workplace, NOWHERE, upstream_is_up=False, queue="empty", log_name="empty") as ours:
        rate.limit, rate.limit_name = accept_rates(bench, ours), "empty"
    begin = lambda: start_relay(bench, workplace, NOWHERE, upstream_is_up=False)  # noqa: E731
    with begin() as ours:
        load.smtp_source(ours.smtp_port, messages, 50, 512, reuse=True, watched=ours)
        page.relay = [listed(bench, workplace) for _ in range(bench.rounds)]
    first.relay = [started(begin) for _ in range(bench.rounds)]
    with begin() as ours:
        time.sleep(3)
        memory.relay = [resident_kib(ours.pid) / 1024]
        rate.relay = accept_rates(bench, ours)
    if bench.with_postfix and with_postfix:
        long_queue_of_postfix(bench, workplace, messages, memory, first)
    return [memory, first, rate, page]


def accept_rates(bench, process):
    """Messages a second of each round, behind one to warm up."""
    system = relay_system(process)
    send(system, 1000, 10, 4096, False, 0)
    for _ in range(bench.rounds):
        send(system, planned(system, bench.seconds, 10, 100), 10, 4096, False, 1)
    return system.rates[1:]


def listed(bench, workplace):
    import subprocess

    begun = time.perf_counter()
    command = [bench.binary, "--config", workplace.directory / "relay.toml", "queue", "list", "--limit", "50"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise relay.Fault(f"queue list: {done.stderr[-500:]}")
    return (time.perf_counter() - begun) * 1000


def long_queue_of_postfix(bench, workplace, messages, memory, first):
    directory = bench.postfix_directory(workplace)
    with postfix.Postfix(workplace, directory, postfix.DEFERRED) as process:
        load.smtp_source(process.smtp_port, messages, 50, 512, reuse=True, watched=process)
    begin = lambda: postfix.Postfix(workplace, directory, postfix.DEFERRED)  # noqa: E731
    first.postfix = [started(begin) for _ in range(bench.rounds)]
    with begin() as process:
        time.sleep(3)
        memory.postfix = [process.resident_kib() / 1024]


# All of them, in the order in which they run: name, measurement, whether only a full run has it, table


def accepts():
    for octets, size in ((4096, "4k"), (MIB, "1m")):
        for sessions in (1, 10, 50):
            for reuse in (False, True):
                name = f"accept-{sessions}-{size}-{'reused' if reuse else 'new'}"
                yield name, lambda bench, s=sessions, o=octets, r=reuse: accept(bench, sessions=s, octets=o, reuse=r)


FIRST, SECOND, THIRD = "Relay and Postfix", "Upstream with STARTTLS and XOAUTH2", "Each sync 2 ms slower"


def measurements():
    for name, measure in accepts():
        yield FIRST, name, measure, False
    yield FIRST, "end-to-end", lambda bench: end_to_end(bench, secured=False), False
    yield FIRST, "latency", lambda bench: one_message(bench, secured=False), False
    yield FIRST, "start", start, False
    yield FIRST, "memory", idle_memory, False
    yield FIRST, "memory-large", large_messages, True
    yield FIRST, "queued-5000", lambda bench: long_queue(bench, messages=5_000), False
    yield FIRST, "queued-100000", lambda bench: long_queue(bench, messages=100_000), True
    yield FIRST, "queued-500000", lambda bench: long_queue(bench, messages=500_000, with_postfix=False), True
    yield SECOND, "xoauth2", lambda bench: end_to_end(bench, secured=True), False
    yield SECOND, "latency-xoauth2", lambda bench: one_message(bench, secured=True), False
    for sessions in (1, 10, 50):
        measure = lambda bench, s=sessions: accept(bench, sessions=s, octets=4096, reuse=False, delayed=True)  # noqa: E731
        yield THIRD, f"accept-{sessions}-4k-delay", measure, False
