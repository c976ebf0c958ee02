"""How many bytes of bodies may be read or answered at once: what many large requests together can take of memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from serving.problems import Problem

#: Seconds after which a client that was sent away may come back.
RETRY = {"Retry-After": "1"}


class Admission:
    """Counts the bytes that requests may bring; one request is always let in, however large it may be.

    Parameters: `limit` is the most bytes of all requests at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    @contextmanager
    def held(self, size: int) -> Generator[None]:
        """Holds room for a body of at most `size` bytes; raises Problem `busy` where there is none."""
        if self._held and self._held + size > self._limit:
            raise Problem(
                "busy", "service: reads as many bodies as it may already; send the request again later.", RETRY
            )
        self._held += size
        try:
            yield
        finally:
            self._held -= size
