"""How many bytes of bodies may be read or answered at once: what many large requests together can take of memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from serving.problems import RETRY, Problem

#: Bytes a second that a body must bring on average, after so many seconds for which it may bring none.
RATE, GRACE_SECONDS = 1024, 5


class Admission:
    """Counts the bytes that requests have brought; one request is always let in, however large it may be.

    Parameters: `limit` is the most bytes of all requests at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._rooms: dict[Room, None] = {}  # in the order in which they began

    @contextmanager
    def room(self) -> Generator[Room]:
        """The room of one request, from its first byte to the end of its answer."""
        room = Room(self)
        self._rooms[room] = None
        try:
            yield room
        finally:
            room.empty()
            del self._rooms[room]

    def take(self, size: int, room: Room) -> None:
        """Counts bytes; raises Problem `busy` where there is no room for them and nobody slow has to make some."""
        while self._held + size > self._limit and self._held > room.held:
            slow = next((other for other in self._rooms if other is not room and other.is_slow()), None)
            if slow is None:
                detail = "service: reads as many bodies as it may already; send the request again later."
                raise Problem("busy", detail, RETRY)
            slow.leave()
        self._held += size

    def give_back(self, size: int) -> None:
        """Counts bytes that are held no more."""
        self._held -= size


class Room:
    """What one request holds. A body that only says that it will be large holds nothing."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._deadline: asyncio.Timeout | None = None
        self._began = self._seconds = 0.0
        self.held, self._left = 0, False

    def take(self, size: int) -> None:
        """Holds the next bytes of a body, which has more time by them; raises Problem `busy` where there is no room."""
        self._admission.take(size, self)
        self.held += size
        self._reschedule()

    def empty(self) -> None:
        """Gives back what is held."""
        self._admission.give_back(self.held)
        self.held = 0

    @asynccontextmanager
    async def arriving(self, seconds: int) -> AsyncGenerator[None]:
        """While a body arrives; raises Problem `slow-body` after `seconds`, or where it brings fewer bytes than RATE."""
        self._began, self._seconds = asyncio.get_running_loop().time(), seconds
        try:
            async with asyncio.timeout_at(self._due()) as self._deadline:
                yield
        except TimeoutError:
            raise Problem("slow-body", self._reason()) from None
        finally:
            self._deadline = None

    def is_slow(self) -> bool:
        """Whether it holds bytes of a body that has been arriving for longer than GRACE_SECONDS."""
        late = self._deadline is not None and asyncio.get_running_loop().time() - self._began > GRACE_SECONDS
        return late and self.held > 0

    def leave(self) -> None:
        """Has a body that is arriving be refused."""
        self.empty()
        self._left = True
        self._reschedule()

    def _reschedule(self) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(self._due())

    def _due(self) -> float:
        return self._began + (0 if self._left else min(self._seconds, GRACE_SECONDS + self.held / RATE))

    def _reason(self) -> str:
        if self._left:
            return (
                f"body: did not arrive within {GRACE_SECONDS} seconds, and others need its room; send it again later."
            )
        if self._seconds <= GRACE_SECONDS + self.held / RATE:
            return f"body: did not arrive within {self._seconds} seconds."
        return f"body: arrives too slowly; send at least {RATE} bytes a second."
