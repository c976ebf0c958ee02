"""From a request to the rows that it asks about. All checks are done here, before anything joins a batch.

Work on a few threads, the smallest piece first: whoever asks for little waits for no more than what is under way.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from serving.exchange import RETRY, Problem
from serving.input.bodies import FORM_BYTES, FORM_TYPE, Room, media_type, read_form, read_within
from serving.input.images import HEADER_BYTES, Picture, decode_image, inspect, largest, read_rows
from serving.settings import Settings

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


#: What a raw body may be declared as; which of them it is its bytes decide.
IMAGE_TYPES = (
    "image/png",
    "image/jpeg",
    "image/jpg",
    "image/pjpeg",
    "image/webp",
    "image/bmp",
    "image/x-ms-bmp",
    "image/gif",
    "image/tiff",
    "image/x-portable-anymap",
    "image/x-portable-bitmap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "application/octet-stream",
)
ARRAY_TYPES = ("application/octet-stream", "application/x-npy", "application/npy")
#: Files and images up to these are decoded at once: handing them to a thread would take longer.
QUICK_BYTES, QUICK_PIXELS = 64 * 1024, 256 * 256

#: Few, since each may hold a whole decoded image; most of their work is done without Python's lock.
_DECODERS = Threads(2, "decoder")


async def picture_of(
    request: Request, shape: tuple[int, int, int], settings: Settings, resize: Mapping[str, Any] | None, room: Room
) -> Picture:
    """The image of a /predict request, with pixels uint8 (H, W, C); raises Problem."""
    content = await _file(request, "image", IMAGE_TYPES, settings.image_bytes, settings.seconds, room)
    quick = len(content) <= QUICK_BYTES
    looked = partial(inspect, content, shape, resize, settings.image_pixels)
    container = looked() if quick else await _aside(settings.seconds, len(content), looked)
    pixels = largest(container, resize)
    if quick and pixels <= QUICK_PIXELS:
        return decode_image(container, shape, resize)
    return await _aside(settings.seconds, pixels, partial(decode_image, container, shape, resize))


async def rows_of(request: Request, shape: tuple[int, int, int], settings: Settings, room: Room) -> NDArray[np.uint8]:
    """The rows uint8 (N, H, W, C) of a /predict_batch request; raises Problem."""
    limit = settings.request_rows * math.prod(shape) + HEADER_BYTES
    content = await _file(request, "images", ARRAY_TYPES, limit, settings.seconds, room)
    read = partial(read_rows, content, shape, settings.request_rows)
    return read() if len(content) <= QUICK_BYTES else await _aside(settings.seconds, len(content), read)


async def _file(request: Request, field: str, types: tuple[str, ...], limit: int, seconds: int, room: Room) -> bytes:
    """The one file that a request carries, as its body or in a field of a multipart form."""
    kind = media_type(request.headers.get("content-type"))
    if kind == FORM_TYPE:
        read = partial(read_form, field=field, types=types)
        return await read_within(request, limit + FORM_BYTES, seconds, room, read)
    if kind not in types:
        wanted = f"{FORM_TYPE}, or the file itself as {', '.join(types[:-1])} or {types[-1]}"
        raise Problem("wrong-type", f"Content-Type: is {kind or 'missing'}; send {wanted}.")
    return await read_within(request, limit, seconds, room, Request.body)


async def _aside(seconds: int, size: int, work: Callable[[], Result]) -> Result:
    """The result of some work on a thread, the smallest first; it is given up where the threads have too much to do."""
    try:
        async with asyncio.timeout(seconds):
            return await _DECODERS.run(size, work)
    except TimeoutError:
        raise Problem("busy", f"decoding: was not done within {seconds} seconds.", RETRY) from None
