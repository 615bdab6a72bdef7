"""How long the machine itself holds everybody up: its disk, and its processor under whatever else runs beside a test.

A test that wants an answer within a second, durable before it comes, would otherwise fail on a host whose disk stalls.
"""

import os
import threading
import time

BEAT_SECONDS = 0.02
OCTETS = b"\0" * 4096


class Pulse:
    """Appends 4 KiB to a file and syncs it, fifty times a second; a context manager."""

    def __init__(self, directory):
        self.path = directory / "pulse"
        self.ended = threading.Event()
        self.beats = threading.Thread(target=self.beat, name="pulse")
        self.longest = 0.0
        self.begun = time.monotonic()

    def __enter__(self):
        self.beats.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.beats.join()

    def beat(self):
        with open(self.path, "wb", buffering=0) as file:
            while not self.ended.is_set():
                self.begun = time.monotonic()
                file.write(OCTETS)
                os.fdatasync(file.fileno())
                self.ended.wait(BEAT_SECONDS)
                self.longest = max(self.longest, time.monotonic() - self.begun - BEAT_SECONDS)

    def start(self):
        """Forgets what was."""
        self.longest = 0.0

    def seconds(self):
        """The longest beat since the start, the one under way included."""
        return max(self.longest, time.monotonic() - self.begun - BEAT_SECONDS, 0.0)
