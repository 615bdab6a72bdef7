"""Starts the sandbox and the relay for the acceptance scripts, and reads what arrived upstream.

Everything happens on 127.0.0.1 and below `target/acceptance/<script>/`:

    logs/       what the relay and the sandbox wrote; `tests/secrets/run` reads every file there
    tenant/     the sandbox's ca.pem and office365.toml
    arrivals/   the messages which reached the sandbox
    queue/      the relay's queue directory
"""

import argparse
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from connection import connect

ROOT = Path(__file__).resolve().parents[2]
ACCEPTANCE = ROOT / "target" / "acceptance"
LOOPBACK = "127.0.0.1"

# In every message the scripts send. tests/secrets/run looks for it in the logs.
CANARY = "MAILDATA-CANARY-7f3a"
# What clients log in with; looked for as well.
CLIENT_PASSWORD = "Toner-Canary-9d41"

REVERSE_PATH = "a@sandbox.example"
FORWARD_PATH = "b@example.net"

POLL_SECONDS = 0.02
READY_SECONDS = 20
STOP_SECONDS = 45
LOG_LINES_SHOWN = 25


class Fault(Exception):
    """A failure to be told to the person at the terminal, without a traceback."""


def main(run):
    """Runs a script's `run()`; returns its exit code and always lets `with` blocks stop their children."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    sys.stdout.reconfigure(line_buffering=True)
    try:
        return run()
    except Fault as fault:
        print(f"FAILED: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def arguments(description):
    """The options that all scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--binary",
        type=Path,
        default=ROOT / "target" / "release" / "o365-relay",
        help="the o365-relay to try (default: target/release/o365-relay)",
    )
    return parser


def checked_binary(path):
    path = path.resolve()
    if not os.access(path, os.X_OK):
        raise Fault(f"{path} is not there or cannot be run: build it, or name another with --binary")
    return path


def wait_until(what, condition, seconds, watched=()):
    """Polls until `condition()` is true and returns its value; faults at the deadline or when a watched one ends."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        for process in watched:
            process.check_alive(f"while waiting for {what}")
        if time.monotonic() > deadline:
            logs = "".join("\n" + process.last_log_lines() for process in watched)
            raise Fault(f"no {what} within {seconds} s{logs}")
        time.sleep(POLL_SECONDS)


def free_ports(count):
    """Ports nobody listens on; all are held at once, so that they differ."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


class Workplace:
    """One script's directory below target/acceptance, emptied when the script starts."""

    def __init__(self, script):
        self.directory = ACCEPTANCE / script
        shutil.rmtree(self.directory, ignore_errors=True)
        self.logs = self.make("logs")

    def make(self, name):
        directory = self.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def log(self, name):
        return self.logs / f"{name}.log"


def environment(temporary):
    """A small environment: no proxy, no AZURE_* and no O365_RELAY_* of the caller reaches a child."""
    return {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "RUST_BACKTRACE": "1",
    }


def die_with_parent():
    """Runs in the child before exec: should this script be killed outright, the child is killed too."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Process:
    """A child whose output goes to a log file; a context manager that always stops it."""

    def __init__(self, name, command, workplace, log_name=None):
        self.name = name
        self.log_path = workplace.log(log_name or name)
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=workplace.directory,
                env=environment(workplace.make("tmp")),
                preexec_fn=die_with_parent,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.child.pid

    def stop(self):
        """SIGTERM, then a bounded wait, then SIGKILL. Returns the exit code (negative: the signal)."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.child.returncode

    def stop_cleanly(self):
        """Stops it and faults unless it ended by itself with exit code 0."""
        code = self.stop()
        if code == -signal.SIGKILL:
            raise Fault(f"{self.name} did not end within {STOP_SECONDS} s of SIGTERM\n{self.last_log_lines()}")
        if code != 0:
            raise Fault(f"{self.name} ended with {code} after SIGTERM, not 0\n{self.last_log_lines()}")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def check_alive(self, when):
        if self.child.poll() is not None:
            raise Fault(f"{self.name} ended with {self.child.returncode} {when}\n{self.last_log_lines()}")

    def last_log_lines(self):
        lines = self.log_path.read_bytes()[-20_000:].decode(errors="replace").splitlines()
        shown = "\n".join(f"  | {line[:300]}" for line in lines[-LOG_LINES_SHOWN:])
        return f"  last lines of {self.log_path}:\n{shown or '  | (nothing)'}"


class Sandbox(Process):
    """The fake tenant on its own; `office365` is the TOML text that points a relay at it. `words` are more of its
    command line. Without `save` it only counts what arrives."""

    def __init__(self, binary, workplace, words=(), *, save=True):
        tenant = workplace.make("tenant")
        smtp_port, login_port = free_ports(2)
        self.arrivals = Arrivals(workplace.make("arrivals"))
        command = [binary, "sandbox", "--only", "--directory", tenant]
        command += ["--save", self.arrivals.directory] if save else []
        command += ["--smtp-address", f"{LOOPBACK}:{smtp_port}", "--login-address", f"{LOOPBACK}:{login_port}"]
        command += words
        section = tenant / "office365.toml"
        section.unlink(missing_ok=True)  # that of an earlier sandbox, with another secret
        super().__init__("sandbox", command, workplace)
        try:
            wait_until("office365.toml from the sandbox", section.exists, READY_SECONDS, [self])
        except BaseException:
            self.stop()
            raise
        self.office365 = section.read_text()


class Relay(Process):
    """The relay under test, ready to take mail when the constructor returns.

    `wrapper` is put before the command and must end in an exec of it, so that the child stays the relay.
    A second Relay on the same `queue` and `log_name` continues where the first one ended. `queue` may be an absolute
    path; `settings` are keys for `--set`, such as "queue.min_free_bytes=0". With `tls` its first octets are TLS.
    """

    def __init__(
        self,
        binary,
        workplace,
        office365,
        *,
        wrapper=(),
        queue="queue",
        log_name="relay",
        log_format="json",
        log_level="trace",
        upstream_is_up=True,
        tls=False,
        settings=(),
    ):
        self.tls = tls
        self.smtp_port, self.http_port = free_ports(2)
        config = workplace.directory / f"{log_name}.toml"
        queue_directory = workplace.make(queue)
        queue_directory.chmod(0o700)
        config.write_text(
            relay_config(office365, self.smtp_port, self.http_port, queue_directory, log_level, log_format)
        )
        config.chmod(0o600)
        command = [*wrapper, binary, "run", "--config", config, *set_words(settings)]
        super().__init__("relay", command, workplace, log_name)
        try:
            wait_until("220 greeting of the relay", self.greets, READY_SECONDS, [self])
            if upstream_is_up:
                self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def wait_ready(self):
        try:
            wait_until("200 from the relay's /readyz", self.is_ready, READY_SECONDS, [self])
        except Fault as fault:
            raise Fault(f"{fault}\n  /readyz: {self.http('/readyz')}") from None

    def greets(self):
        return greets(self.smtp_port, tls=self.tls)

    def is_ready(self):
        return self.http("/readyz")[0] == 200

    def http(self, path):
        """Status and body of a GET; status 0 where nothing answers."""
        connection = http.client.HTTPConnection(LOOPBACK, self.http_port, timeout=5)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def keep_reports(self, workplace):
        """Keeps /status, /readyz and /metrics beside the logs: they must not hold a secret either."""
        for name in ("status", "readyz", "metrics"):
            workplace.log(f"http-{name}").write_bytes(self.http(f"/{name}")[1])

    def memory_kib(self, field):
        """A field such as VmRSS or VmHWM of the relay's /proc status, in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
        raise Fault(f"/proc/{self.pid}/status has no {field}")


def relay_config(office365, smtp_port, http_port, queue, log_level, log_format):
    """The relay's configuration: the sandbox's [office365] section without pace, and everything else loopback."""
    return f"""{with_unlimited_pace(office365)}
[listener]
addresses = ["{LOOPBACK}:{smtp_port}"]
max_message_size = "35MiB"

[queue]
directory = "{queue}"
ephemeral = true  # CI may run in a container

[http]
address = "{LOOPBACK}:{http_port}"

[log]
level = "{log_level}"
format = "{log_format}"
"""


def with_unlimited_pace(office365):
    section = tomllib.loads(office365).get("office365")
    if section is None:
        raise Fault("the sandbox's office365.toml has no [office365] section")
    if "pace" in section:
        return office365
    return office365.replace("[office365]", '[office365]\npace = "unlimited"', 1)


def set_words(settings):
    """The words of the command line for keys such as "queue.min_free_bytes=0"."""
    return [word for setting in settings for word in ("--set", setting)]


def without_upstream(office365):
    """The section with ports where nothing listens: mail is taken and stays in the queue."""
    section = re.sub(r"(?m)^smtp_port = .*$", "smtp_port = 1", office365)
    return re.sub(r"(?m)^login_url = .*$", 'login_url = "https://localhost:1"', section)


def greets(port, tls=False):
    """Whether an SMTP server answers there."""
    try:
        with connect(port, 5, tls=tls) as connection:
            greeting = connection.makefile("rb").readline()
            connection.sendall(b"QUIT\r\n")
            connection.recv(512)
            return greeting.startswith(b"220")
    except OSError:
        return False


@dataclass(frozen=True)
class Arrival:
    """One message as the sandbox received it."""

    number: int
    reverse_path: str
    forward_paths: tuple
    mail_parameters: tuple
    path: Path
    authenticated_as: str = ""
    arrived_at: str = ""

    def mail_data(self):
        return self.path.read_bytes()


class Arrivals:
    """The directory into which the sandbox saves what it receives; a message counts once its .json is there."""

    def __init__(self, directory):
        self.directory = directory

    def count(self):
        return sum(name.endswith(".json") for name in os.listdir(self.directory))

    def wait_for(self, count, seconds, watched=()):
        """Waits until at least `count` messages are there."""
        try:
            wait_until(f"arrival of {count} messages", lambda: self.count() >= count, seconds, watched)
        except Fault as fault:
            raise Fault(f"{self.count()} of {count} messages arrived; {fault}") from None

    def read(self):
        return [self.read_one(path) for path in sorted(self.directory.glob("*.json"))]

    @staticmethod
    def read_one(path):
        facts = json.loads(path.read_text())
        return Arrival(
            number=facts.get("number", 0),
            reverse_path=bare_path(facts.get("reverse_path")),
            forward_paths=tuple(bare_path(item) for item in facts.get("forward_paths", [])),
            mail_parameters=tuple(word.upper() for word in facts.get("mail_parameters") or ()),
            path=path.with_suffix(".eml"),
            authenticated_as=facts.get("authenticated_as", ""),
            arrived_at=facts.get("arrived_at", ""),
        )


def bare_path(item):
    """A path from the sandbox's JSON, which holds it as a string or as an object with an address."""
    if isinstance(item, dict):
        item = item.get("address")
    return (item or "").removeprefix("<").removesuffix(">")
