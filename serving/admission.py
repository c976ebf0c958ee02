"""How many bytes of bodies may be read or answered at once: what many large requests together can take of memory."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from starlette.requests import Request

from serving.problems import RETRY, Problem


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


def body_size(request: Request, most: int) -> int:
    """The bytes that a request's body may come to: what it declares, and `most` where it declares nothing or more."""
    declared = request.headers.get("content-length", "")
    return min(int(declared), most) if declared.isdecimal() else most
