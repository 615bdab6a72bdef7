"""Processor time and memory of processes, from /proc."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def stat(pid):
    """The fields of /proc/PID/stat behind the command's name; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def children(parent):
    """The processes whose parent this is."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(name)
            if fields and int(fields[1]) == parent:
                found.append(int(name))
    return found


def cpu_seconds(pid, *, reaped=False):
    """User and system time; with `reaped` that of children that have ended, too. To 1/100 s."""
    fields = stat(pid)
    if fields is None:
        return 0.0
    return sum(int(ticks) for ticks in fields[11 : 15 if reaped else 13]) / TICKS


def kib(pid, file, field):
    """A field of /proc/PID/`file` in KiB; 0 if the process has ended."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0])
    except OSError:
        pass
    return 0


def pss_kib(pid):
    return kib(pid, "smaps_rollup", "Pss")


def resident_kib(pid):
    return kib(pid, "status", "VmRSS")


def peak_kib(pid):
    return kib(pid, "status", "VmHWM")
