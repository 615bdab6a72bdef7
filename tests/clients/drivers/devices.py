"""Imitations of devices whose firmware follows no RFC; they do what dialogues of real ones show."""

import sys

from .driver import PROGRAMS, Driver, program


def device(dialect):
    return program(sys.executable, str(PROGRAMS / "device.py"), dialect)


NO_TLS = {"starttls": "such devices have no TLS", "implicit": "such devices have no TLS"}

DRIVERS = [
    Driver(
        "telnet device",
        "a controller that sends MAIL without a greeting and ends commands in LF",
        device("telnet"),
        cannot=NO_TLS,
        loose=True,
    ),
    Driver(
        "old scanner",
        "lower case, a space behind the colon, no brackets, one octet at a time",
        device("old"),
        cannot=NO_TLS,
        loose=True,
    ),
]
