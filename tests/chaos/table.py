"""What was tried and how it went: a row each, as Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.commands import Fault

HEADS = ("what", "disturbed", "went on", "result", "seconds")


@dataclass
class Row:
    """One thing that was tried: how often it was disturbed and went on, what was found, and what was wrong."""

    what: str
    disturbed: int = 0
    went_on: int = 0
    result: str = ""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def cells(self) -> list[str]:
        result = f"**{len(self.faults)} faults**" if self.faults else self.result
        return [
            self.what,
            str(self.disturbed),
            str(self.went_on),
            result,
            f"{self.seconds:.0f}",
        ]


@contextmanager
def row(rows: list[Row], what: str) -> Iterator[Row]:
    """A row more; a Fault in it is kept and printed, and the next row is tried."""
    rows.append(Row(what))
    begun = time.monotonic()
    print(f"{what} …", flush=True)
    try:
        yield rows[-1]
    except Fault as fault:
        rows[-1].faults.append(str(fault))
        print(f"FAULT: {fault}", flush=True)
    finally:
        rows[-1].seconds = time.monotonic() - begun
        print(f"  {' | '.join(rows[-1].cells()[1:])}", flush=True)


def markdown(rows: list[Row]) -> str:
    """The table."""
    lines = [HEADS, ["---", "---:", "---:", "---", "---:"], *(item.cells() for item in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
