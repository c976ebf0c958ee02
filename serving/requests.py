"""From a request to the rows that it asks about. All checks are done here, before anything joins a batch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from serving.arrays import HEADER_BYTES, read_rows
from serving.bodies import read_within
from serving.forms import FORM_BYTES, FORM_TYPE, media_type, read_form
from serving.images import Picture, read_image
from serving.problems import RETRY, Problem
from serving.settings import Settings

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
_DECODERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decoder")
Result = TypeVar("Result")


async def picture_of(
    request: Request, shape: tuple[int, int, int], settings: Settings, resize: Mapping[str, Any] | None
) -> Picture:
    """The image of a /predict request, with pixels uint8 (H, W, C); raises Problem."""
    content = await _file(request, "image", IMAGE_TYPES, settings.image_bytes, settings.seconds)
    if resize is None and len(content) <= QUICK_BYTES and shape[0] * shape[1] <= QUICK_PIXELS:
        return read_image(content, shape)
    return await _aside(settings.seconds, lambda: read_image(content, shape, resize))


async def rows_of(request: Request, shape: tuple[int, int, int], settings: Settings) -> NDArray[np.uint8]:
    """The rows uint8 (N, H, W, C) of a /predict_batch request; raises Problem."""
    limit = settings.request_rows * math.prod(shape) + HEADER_BYTES
    content = await _file(request, "images", ARRAY_TYPES, limit, settings.seconds)
    if len(content) <= QUICK_BYTES:
        return read_rows(content, shape, settings.request_rows)
    return await _aside(settings.seconds, lambda: read_rows(content, shape, settings.request_rows))


async def _file(request: Request, field: str, types: tuple[str, ...], limit: int, seconds: int) -> bytes:
    """The one file that a request carries, as its body or in a field of a multipart form."""
    kind = media_type(request.headers.get("content-type"))
    if kind == FORM_TYPE:
        return await read_within(request, limit + FORM_BYTES, seconds, lambda bounded: read_form(bounded, field, types))
    if kind not in types:
        wanted = f"{FORM_TYPE}, or the file itself as {', '.join(types[:-1])} or {types[-1]}"
        raise Problem("wrong-type", f"Content-Type: is {kind or 'missing'}; send {wanted}.")
    return await read_within(request, limit, seconds, Request.body)


async def _aside(seconds: int, work: Callable[[], Result]) -> Result:
    """The result of some work on a thread; it is given up where the threads have too much to do."""
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(_DECODERS, work)
    except TimeoutError:
        raise Problem("busy", f"decoding: was not done within {seconds} seconds.", RETRY) from None
