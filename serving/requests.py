"""From a request to the rows that it asks about. All checks are done here, before anything joins a batch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from serving.arrays import HEADER_BYTES, read_rows
from serving.images import read_image
from serving.problems import Problem
from serving.settings import Settings

IMAGE_TYPES = ("image/png", "image/jpeg", "image/jpg", "application/octet-stream")
#: Room for the boundaries and headers of a multipart body.
FORM_BYTES = 64 * 1024
#: A body that is too large is read on for this much and thrown away, so that its client gets to see the answer.
DRAINED_BYTES = 64 * 1024 * 1024


async def image_of(request: Request, shape: tuple[int, int, int], settings: Settings) -> NDArray[np.uint8]:
    """The row uint8 (1, H, W, C) of a /predict request; raises Problem."""
    upload = await _file(request, "image", settings.image_bytes + FORM_BYTES, settings.seconds)
    kind = (upload.content_type or "application/octet-stream").partition(";")[0].strip().lower()
    if kind not in IMAGE_TYPES:
        raise Problem("wrong-type", f"image: is declared as {kind}; send image/png or image/jpeg.")
    return read_image(await upload.read(), shape)[None]


async def rows_of(request: Request, shape: tuple[int, int, int], settings: Settings) -> NDArray[np.uint8]:
    """The rows uint8 (N, H, W, C) of a /predict_batch request; raises Problem."""
    limit = settings.request_rows * math.prod(shape) + HEADER_BYTES + FORM_BYTES
    upload = await _file(request, "images", limit, settings.seconds)
    return read_rows(await upload.read(), shape, settings.request_rows)


async def _file(request: Request, field: str, limit: int, seconds: int) -> UploadFile:
    """The one file of a multipart form, in the named field."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Problem("wrong-type", f"Content-Type: is {kind or 'missing'}; send multipart/form-data.")
    try:
        async with asyncio.timeout(seconds):
            form = await _form(request, limit)
    except TimeoutError:
        raise Problem("slow-body", f"body: did not arrive within {seconds} seconds.") from None
    given = [name for name, _ in form.multi_items()]
    if given != [field]:
        listed = ", ".join(sorted(given)) or "none"
        raise Problem("bad-form", f"form: must have exactly one field, {field}, with one file; got {listed}.")
    upload = form[field]
    if not isinstance(upload, UploadFile):
        raise Problem("bad-form", f"{field}: is text; send it as a file, with a filename.")
    return upload


async def _form(request: Request, limit: int) -> FormData:
    declared = request.headers.get("content-length", "")
    over = Problem("too-large", f"body: is larger than {limit} bytes, the most that this route takes.")
    if declared.isdecimal() and int(declared) > limit:
        await _drain(request, int(declared))
        raise over
    size = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise over
        return message

    try:
        return await Request(request.scope, receive).form(max_files=4, max_fields=4)
    except HTTPException as error:  # Starlette's name for a malformed form
        raise Problem("bad-form", f"form: {error.detail.rstrip('.')}.") from None
    except ClientDisconnect:
        raise Problem("bad-form", "body: ended before its end.") from None


async def _drain(request: Request, size: int) -> None:
    if size > DRAINED_BYTES:
        return
    try:
        async with asyncio.timeout(5):
            async for _ in request.stream():
                pass
    except TimeoutError:
        pass
