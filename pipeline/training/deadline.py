"""Whether the next epoch fits into the time that is left."""

from __future__ import annotations

import time


class Deadline:
    """Judges an epoch by the longest one so far, with its validation and checkpoint; `at` is a time.monotonic() value."""

    def __init__(self, at: float | None) -> None:
        self.at = at
        self.longest = 0.0
        self._last = time.monotonic()

    def epoch_done(self) -> None:
        """Notes how long the epoch took."""
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now

    def admits_another(self) -> bool:
        """Whether one more epoch would end in time; before the first, whether there is time at all."""
        return self.at is None or time.monotonic() + self.longest < self.at
