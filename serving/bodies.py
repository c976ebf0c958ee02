"""The body of a request, within a limit of bytes and one of seconds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from serving.admission import Room
from serving.encodings import check_body
from serving.problems import Problem

#: A body that is too large is read on for this much and thrown away, so that its client gets to see the answer.
DRAINED_BYTES = 64 * 1024 * 1024
DRAINED_SECONDS = 5
#: As RFC 9110 §8.6 spells a Content-Length, within what a body can come to.
_LENGTH = re.compile(r"[0-9]{1,18}")

Result = TypeVar("Result")


class _TooLarge(Exception):
    """More bytes than may be."""


class _Bounded:
    """Receives a body into its room, and raises _TooLarge at the message that goes beyond the limit."""

    def __init__(self, receive: Receive, limit: int, room: Room) -> None:
        self._receive, self._left, self._room, self.more = receive, limit, room, True

    async def __call__(self) -> Message:
        message = await self._next()
        self._room.take(len(message.get("body", b"")))
        return message

    async def drain(self) -> None:
        """Reads on and throws away, within the limits above."""
        self._room.empty()
        self._left = DRAINED_BYTES
        with suppress(_TooLarge, TimeoutError):
            async with asyncio.timeout(DRAINED_SECONDS):
                while self.more:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        self.more = bool(message.get("more_body"))
        if self._left < 0:
            raise _TooLarge
        return message


async def read_within(
    request: Request, limit: int, seconds: int, room: Room, read: Callable[[Request], Awaitable[Result]]
) -> Result:
    """What `read` makes of a request whose body has at most `limit` bytes and arrives within `seconds`, into its room.

    Raises Problem `wrong-type` where the body is declared as packed, `too-large`, `slow-body`, `busy`, or `bad-form`
    where the client leaves before the end.
    """
    check_body(request.headers)
    bounded = _Bounded(request.receive, limit, room)
    declared = request.headers.get("content-length", "")
    known = int(declared) if _LENGTH.fullmatch(declared) else 0
    try:
        if known > limit:
            raise _TooLarge
        async with room.arriving(seconds):
            return await read(Request(request.scope, bounded))
    except _TooLarge:
        if known <= DRAINED_BYTES:
            await bounded.drain()
        message = f"body: is larger than {limit} bytes, the most that this route takes."
        raise Problem("too-large", message) from None
    except ClientDisconnect:
        raise Problem("bad-form", "body: ended before its end.") from None
