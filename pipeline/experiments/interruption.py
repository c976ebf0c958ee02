"""Being stopped by hand or by a parent process: one way out, whatever is running."""

from __future__ import annotations

import signal
from types import FrameType


class Interruption:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that it was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on; only the main thread of a process may call it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt
