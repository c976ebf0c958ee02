"""From a connection to the bytes of one file: limits, room, and what they may be wrapped in.

A body is read within a limit of bytes and one of seconds. How many bytes of bodies may be read or answered at once says
what many large requests together can take of memory. A body or a part of it may be wrapped in nothing: what is declared
as packed is refused by name, never misread. Of a multipart form, one file is read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from serving.exchange import RETRY, Problem

#: Bytes per second that a body must bring on average, after so many seconds for which it may bring none.
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
        return f"body: arrives too slowly; send at least {RATE} bytes per second."


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


#: Codings that leave the bytes as they are.
PLAIN = ("", "identity")
#: Transfer encodings of a part of a form that do (RFC 7578 §4.7 has the others out of use).
PLAIN_PARTS = ("", "7bit", "8bit", "binary")


def check_body(headers: Headers) -> None:
    """Raises Problem `wrong-type` where the body is declared as packed; the answer says what is taken (RFC 9110 §12.5.3)."""
    _check("Content-Encoding", headers, PLAIN)


def check_part(field: str, headers: Headers) -> None:
    """The same for a file in a form, which has headers of its own."""
    _check("Content-Encoding", headers, PLAIN, f"{field}: ")
    _check("Content-Transfer-Encoding", headers, PLAIN_PARTS, f"{field}: ")


def _check(name: str, headers: Headers, plain: tuple[str, ...], where: str = "") -> None:
    given = ", ".join(headers.getlist(name)).strip()
    if any(coding.strip().lower() not in plain for coding in given.split(",")):
        detail = f"{where}{name}: is {given}; send the file as it is, without this header."
        raise Problem("wrong-type", detail, {"Accept-Encoding": "identity"})


FORM_TYPE = "multipart/form-data"
#: Room for the boundaries and headers of a multipart body.
FORM_BYTES = 64 * 1024
#: Charsets that clients declare and that spell a field's name alike; Python would decode by a hundred others.
CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")


class _Parser(MultiPartParser):
    """Keeps files in memory, whose size is bounded already: an image of a client is never written to the disk."""

    spool_max_size = 0


async def read_form(request: Request, field: str, types: tuple[str, ...]) -> bytes:
    """The content of the only field, which is a file declared as one of some media types, or as none, and not as packed.

    Raises Problem `bad-form` or `wrong-type` where the form is anything else.
    """
    upload = await _upload(request, field)
    check_part(field, upload.headers)
    kind = media_type(upload.content_type)
    if kind and kind not in types:
        raise Problem("wrong-type", f"{field}: is declared as {kind}; send {', '.join(types[:-1])} or {types[-1]}.")
    return await upload.read()


def media_type(declared: str | None) -> str:
    """A Content-Type without its parameters, in small letters; empty where there is none."""
    return (declared or "").partition(";")[0].strip().lower()


async def _upload(request: Request, field: str) -> UploadFile:
    try:
        _check_charset(request)
        form = await _Parser(request.headers, request.stream(), max_files=4, max_fields=4).parse()
    except MultiPartException as error:
        raise Problem("bad-form", f"form: {error.message.rstrip('.')}.") from None
    except ValueError:  # of the standard library's reader of headers, such as for a number of thousands of digits
        raise Problem("bad-form", "form: has headers that cannot be read.") from None
    given = [name for name, _ in form.multi_items()]
    if given != [field]:
        listed = ", ".join(sorted(given)) or "none"
        raise Problem("bad-form", f"form: must have exactly one field, {field}, with one file; got {listed}.")
    upload = form[field]
    if not isinstance(upload, UploadFile):
        raise Problem("bad-form", f"{field}: is text; send it as a file, with a filename.")
    return upload


def _check_charset(request: Request) -> None:
    """Raises Problem where the fields' names are declared to be in another charset, or ValueError."""
    _, parameters = parse_options_header(request.headers["content-type"])
    charset = parameters.get(b"charset", CHARSETS[0])
    if charset.lower() not in CHARSETS:
        detail = f"form: declares the charset {charset.decode('latin-1')}; send the names of fields in UTF-8."
        raise Problem("bad-form", detail)
