"""Work on a few threads, the smallest piece first: whoever asks for little waits for no more than what is under way."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs functions for one event loop.

    Parameters: `number` is how many run at once, `name` what the threads are called.
    """

    def __init__(self, number: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(number, thread_name_prefix=name)
        self._free = number
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()  # of equals, the first to come is the first to go

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """What some work returns or raises; `size` is how much it is, in any unit. Whoever is cancelled waits no more."""
        await self._place(size)
        loop = asyncio.get_running_loop()
        running = self._pool.submit(work)
        # Only now, not when its caller gives up, the thread is free.
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._next))
        return await asyncio.wrap_future(running)

    async def _place(self, size: int) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (size, next(self._arrivals), place))
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given the place in the same moment
                self._next()
            raise

    def _next(self) -> None:
        while self._waiting:
            *_, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1
