"""Reads what `strace -f -y -o FILE` wrote: one Call per system call, with the order of its start and its end."""

import re
from dataclasses import dataclass

LINE = re.compile(r"^(\d+)\s+(.*)$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
UNFINISHED = " <unfinished ...>"
CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+|\?)", re.DOTALL)
FIRST_DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")


@dataclass(frozen=True)
class Call:
    """`start` and `end` are line numbers: a call ended before another began if end < start of the other."""

    start: int
    end: int
    name: str
    words: str
    result: int
    line: str

    @property
    def target(self):
        """The file or socket of the descriptor in the first argument; empty where there is none."""
        found = FIRST_DESCRIPTOR.match(self.words)
        return found.group(1) if found else ""

    @property
    def is_sync(self):
        return self.name in ("fsync", "fdatasync") and self.result == 0

    @property
    def is_write(self):
        return self.name in ("write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg") and self.result > 0

    @property
    def is_to_socket(self):
        return self.is_write and self.target.startswith(("socket:", "TCP"))

    def evidence(self):
        shown = self.line if len(self.line) <= 150 else self.line[:100] + " ... " + self.line[-40:]
        return f"{self.start:>7}{'-' + str(self.end) if self.end != self.start else '':<7} {shown}"


def calls(path):
    """The finished calls in the order of their starts; the two halves of an interrupted line are joined."""
    found = []
    begun = {}
    with open(path, errors="replace") as trace:
        for number, line in enumerate(trace, 1):
            parts = LINE.match(line.rstrip("\n"))
            if not parts:
                continue
            thread, text = parts.groups()
            if text.endswith(UNFINISHED):
                begun[thread] = (number, text.removesuffix(UNFINISHED))
                continue
            start = number
            if resumed := RESUMED.match(text):
                start, first_half = begun.pop(thread, (number, resumed.group(1) + "("))
                text = first_half + resumed.group(2)
            if call := CALL.match(text):
                name, words, result = call.groups()
                found.append(Call(start, number, name, words, -1 if result == "?" else int(result), text))
    return sorted(found, key=lambda call: call.start)
