"""The outcome of tests/clients/run: as a table for the terminal, and as one for docs/compatibility.md."""

from bodies import BODIES

BEGIN = "<!-- clients: begin; written by tests/clients/run --markdown -->\n"
END = "<!-- clients: end -->\n"


class Table:
    """All cells of a run, by client, body and mode."""

    def __init__(self, cells, drivers, modes, left_out):
        self.cells = cells
        self.drivers = drivers
        self.modes = modes
        self.left_out = left_out

    def report(self, workplace):
        """Prints the tables and the faults; returns the exit code."""
        plain = [cell for cell in self.cells if cell.mode.is_plain]
        self.show(plain, lambda cell: cell.body, [body for body in BODIES if any(c.body == body for c in plain)])
        others = [mode.name for mode in self.modes if not mode.is_plain]
        self.show([cell for cell in self.cells if not cell.mode.is_plain], lambda cell: cell.mode.name, others)
        for cell in self.cells:
            for fault in cell.faults:
                print(f"{cell.name}: {fault}")
        for driver in self.drivers:
            for what, reason in driver.cannot.items():
                print(f"left out: {driver.name}, {what}: {reason}")
        for line in self.left_out:
            print(f"left out: {line}")
        failed = sum(bool(cell.faults) for cell in self.cells)
        clients = len({cell.driver.name for cell in self.cells})
        print(f"{clients} clients: {len(self.cells) - failed} passed, {failed} failed")
        if failed:
            print(f"the relay's logs are below {workplace.logs}")
        return 1 if failed or not self.cells else 0

    def show(self, cells, column, columns):
        if not columns or not cells:
            return
        print("".join(f"{word:{width}}" for word, width in zip(["", *columns], widths(columns))).rstrip())
        for driver in self.drivers:
            words = [outcome(c for c in cells if c.driver is driver and column(c) == name) for name in columns]
            print("".join(f"{word:{width}}" for word, width in zip([driver.name, *words], widths(columns))).rstrip())

    def write_markdown(self, path):
        """Replaces the table between the two marks of a file; only what this run has seen to pass is a yes."""
        before, rest = path.read_text().split(BEGIN)
        after = rest.split(END)[1]
        names = [mode.name for mode in self.modes]
        rows = [["client", "what it stands for", *names], ["---"] * (len(names) + 2)]
        for driver in self.drivers:
            cells = [cell for cell in self.cells if cell.driver is driver]
            words = [outcome(cell for cell in cells if cell.mode.name == name) for name in names]
            rows.append([driver.name, driver.stands_for, *words])
        table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def outcome(cells):
    cells = list(cells)
    if not cells:
        return "-"
    return "DIFFERS" if any(cell.faults for cell in cells) else "ok"


def widths(columns):
    return [22, *(max(11, len(name)) + 2 for name in columns)]
