"""Rows of figures, and how they are shown: a Markdown table of medians and ratios, and JSON with every figure."""

import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    """One row. Figures are those of the rounds, in their order; `wanted` is a bound in words and `holds` judges the
    medians. With `lower_is_better` the ratio is Postfix / relay: above 1 is better in every row."""

    name: str
    title: str
    unit: str
    relay: list = field(default_factory=list)
    postfix: list = field(default_factory=list)
    limit: list = field(default_factory=list)
    limit_name: str = ""
    lower_is_better: bool = False
    least_ratio: float = 0
    least_part_of_limit: float = 0
    most: float = 0
    note: str = ""
    # Whether the figures of a round belong together, so that each has a ratio; otherwise the medians have one.
    by_rounds: bool = True
    has_ratio: bool = True

    def ratios(self):
        if not (self.relay and self.postfix and self.has_ratio):
            return []
        pairs = zip(self.relay, self.postfix, strict=False)
        if not self.by_rounds:
            pairs = [(statistics.median(self.relay), statistics.median(self.postfix))]
        if self.lower_is_better:
            return [theirs / ours for ours, theirs in pairs if ours]
        return [ours / theirs for ours, theirs in pairs if theirs]

    def wanted(self):
        words = []
        if self.least_ratio:
            words.append(f"ratio ≥ {number(self.least_ratio)}")
        if self.least_part_of_limit:
            words.append(f"≥ {self.least_part_of_limit:.0%} of limit")
        if self.most:
            words.append(f"≤ {number(self.most)}")
        return ", ".join(words)

    def holds(self):
        """Whether what is wanted holds for the medians; None if nothing is."""
        held = []
        if self.least_ratio and self.ratios():
            held.append(statistics.median(self.ratios()) >= self.least_ratio)
        if self.least_part_of_limit and self.limit and self.relay:
            parts = [ours / limit for ours, limit in zip(self.relay, self.limit, strict=False)]
            held.append(statistics.median(parts) >= self.least_part_of_limit)
        if self.most and self.relay:
            held.append(statistics.median(self.relay) <= self.most)
        return all(held) if held else None

    def cells(self):
        ratios = self.ratios()
        spread = f"{min(ratios):.1f} / **{statistics.median(ratios):.1f}** / {max(ratios):.1f}" if ratios else ""
        if len(ratios) == 1:
            spread = f"**{ratios[0]:.1f}**"
        verdict = {None: "", True: "yes", False: "**no**"}[self.holds()]
        limit = median(self.limit)
        if limit and self.limit_name:
            part = statistics.median(self.relay) / statistics.median(self.limit)
            limit = f"{limit} ({part:.0%})"
        return [self.title, self.unit, median(self.relay), median(self.postfix), spread, limit, self.wanted(), verdict]


HEADINGS = ["", "unit", "relay", "Postfix", "ratio min / median / max", "limit (part reached)", "wanted", "met"]


def median(figures):
    return number(statistics.median(figures)) if figures else ""


def number(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def markdown(title, rows):
    """A table that can be pasted; columns in which nothing stands are left out."""
    table = [HEADINGS, *(row.cells() for row in rows)]
    used = [any(line[column] for line in table[1:]) or column == 0 for column in range(len(HEADINGS))]
    lines = [[cell for cell, keep in zip(line, used, strict=True) if keep] for line in table]
    rendered = ["| " + " | ".join(line) + " |" for line in lines]
    rendered.insert(1, "|" + "|".join(["---"] + ["---:"] * (len(lines[0]) - 1)) + "|")
    notes = [f"- {row.title}: {row.note}" for row in rows if row.note]
    return "\n".join([f"### {title}", "", *rendered, *([""] + notes if notes else []), ""])


def machine():
    """What the figures were taken on, and how quiet it was."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": cpu,
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "load_average_before": os.getloadavg()[0],
    }


def as_json(rows):
    return [{**asdict(row), "ratios": row.ratios(), "met": row.holds()} for row in rows]
