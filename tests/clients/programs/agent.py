"""Hands one message to a mail server in a tree of its own and waits until it has passed it on: SPEC, a JSON file:

daemon   the command that runs the queue, or null where `submit` itself sends
ready    a file that is there once the daemon takes mail, or a socket that can be connected to then, or null
submit   the command that takes the message from standard input
queue    directories without files once all mail has left; `kept` are names of files that stay
failed   directories in which a file means that the mail could not be sent
log      what to show if it was not
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.02
READY_SECONDS = 15
SENT_SECONDS = 90


def files(directories, kept=()):
    # The agent works in there meanwhile; os.walk puts up with what is gone.
    walked = [(where, name) for directory in directories for where, _, names in os.walk(directory) for name in names]
    return [f"{where}/{name}" for where, name in walked if name not in kept]


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_ready(path):
    if not path.is_socket():
        return path.exists()
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(command, log):
    with open(log, "ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )


def stop(daemon):
    """Ends the daemon and its children at once: either nothing is left to send, or it will be told."""
    os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def run(spec):
    """What went wrong, or nothing."""
    ready = spec["ready"]
    if ready and not wait_until(lambda: is_ready(Path(ready)), READY_SECONDS):
        return f"{ready} is not there after {READY_SECONDS} s"
    done = subprocess.run(spec["submit"], stdin=sys.stdin.buffer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        return f"{spec['submit'][2]} ended with {done.returncode}: {done.stdout[-1000:].decode(errors='replace')}"

    def is_over():
        return files(spec["failed"]) or not files(spec["queue"], spec["kept"])

    if not wait_until(is_over, SENT_SECONDS):
        return f"still in the queue: {files(spec['queue'], spec['kept'])}"
    return f"could not be sent: {files(spec['failed'])}" if files(spec["failed"]) else None


spec = json.loads(Path(sys.argv[1]).read_text())
# The signal that ends the script must not leave a daemon behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
if spec["ready"]:
    # A daemon that was killed has left it there.
    Path(spec["ready"]).unlink(missing_ok=True)
daemon = start(spec["daemon"], spec["log"]) if spec["daemon"] else None
try:
    fault = run(spec)
finally:
    if daemon:
        stop(daemon)
if fault:
    log = Path(spec["log"])
    print(log.read_text(errors="replace")[-1500:] if log.exists() else "")
    sys.exit(fault)
