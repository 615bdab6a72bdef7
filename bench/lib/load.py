"""Who sends, who takes, and what the disk can do: smtp-source, smtp-sink, fdatasync."""

import os
import subprocess
import time

import relay

SINK_BACKLOG = 1000


class Sink(relay.Process):
    """smtp-sink: takes everything, stores nothing."""

    def __init__(self, workplace, name="sink"):
        (self.smtp_port,) = relay.free_ports(1)
        super().__init__(
            name, ["smtp-sink", "-u", "nobody", f"{relay.LOOPBACK}:{self.smtp_port}", str(SINK_BACKLOG)], workplace
        )

        try:
            relay.wait_until("220 greeting of smtp-sink", lambda: relay.greets(self.smtp_port), 10, [self])
        except BaseException:
            self.stop()
            raise


def smtp_source(port, messages, sessions, octets, *, reuse, watched):
    """Sends that many messages and returns how many seconds it took until the last final reply."""
    command = ["smtp-source", "-s", str(sessions), "-l", str(octets), "-m", str(messages)]
    command += ["-d"] if reuse else []
    command += ["-f", relay.REVERSE_PATH, "-t", relay.FORWARD_PATH, f"{relay.LOOPBACK}:{port}"]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        watched.check_alive("under load")
        raise relay.Fault(f"smtp-source: {done.stdout[-500:]}\n{watched.last_log_lines()}")
    return seconds


def fdatasync_rate(directory, seconds, wrapper_delay_us=0):
    """Appends of 4 KiB a second, each with an fdatasync, by one writer."""
    path = directory / "fdatasync"
    block = os.urandom(4096)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count, begun = 0, time.perf_counter()
        while True:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            if wrapper_delay_us:
                time.sleep(wrapper_delay_us / 1e6)
            count += 1
            elapsed = time.perf_counter() - begun
            if elapsed >= seconds:
                return count / elapsed
    finally:
        os.close(descriptor)
        path.unlink()
