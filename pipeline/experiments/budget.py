"""The time that a call has, and how times are read and written."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass

from bundle.errors import HallmarkError

#: Share by which the next epoch or shard may take longer than the last one.
CAUTION = 0.1


@dataclass(frozen=True)
class Budget:
    """`deadline` is a value of time.monotonic(); None where there is no limit."""

    deadline: float | None = None

    @classmethod
    def of(cls, text: str | None, started: float) -> Budget:
        """`25m`, `90s`, `2h`, `1h30m` or seconds, counted from `started`; None: no limit. Raises HallmarkError."""
        return cls() if text is None else cls(started + read_duration(text))

    def left(self) -> float:
        """Seconds left."""
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def fits(self, seconds: float) -> bool:
        """Whether something that should take so long can still be done."""
        return seconds * (1 + CAUTION) < self.left()


def read_duration(text: str) -> float:
    """Seconds of `25m`, `90s`, `2h`, `1h30m`, or of a plain number; raises HallmarkError for anything else."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise HallmarkError(f"budget: must be a time like 25m, 90s or 1h30m, got {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600.0 + minutes * 60 + seconds


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
