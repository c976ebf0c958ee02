"""The HTTP server's parser: h11, which reads on where a client offers to go on in another protocol, within limits.

By itself, uvicorn takes httptools where it is installed. That one stops at an `Upgrade` header, as `curl --http2` and some
languages' clients send it with every request: the body is lost, and its bytes are taken for the next request. It also takes
heads without an end; and neither parser has a limit of time for what a client still owes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import Scope
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

#: The most bytes of a request's line and headers, and how long they may take to arrive.
HEAD_BYTES, HEAD_SECONDS = 16 * 1024, 10
#: How long a client may take no byte of an answer. The kernel's buffers hide what it takes, by a megabyte at a time.
UNREAD_SECONDS = 60
#: For how long a refused client is still listened to: closed at once, its own bytes would hide the answer from it.
LINGER_SECONDS = 1
_BLANK_LINE = re.compile(rb"\n\r?\n")


class PlainHTTP(H11Protocol):
    """HTTP/1.1 and nothing else: every offer to upgrade is passed over, as RFC 9110 §7.8 allows.

    Whatever the client has to do next has a limit of time: to send a head, to send the rest of a body that is answered
    already, to take its answer. Bodies that are read have theirs in serving.input.bodies.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._owed: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._awaits_head() and self._is_too_long(data):
            self._refuse(431, f"The request's head is larger than {HEAD_BYTES} bytes.")
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()
        if self._unread is None:
            self._watch_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._owed, self._unread):
            if timer is not None:
                timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP ends the connection; uvicorn's own would fail where an answer has begun."""
        self._refuse(400, msg)

    def _get_upgrade(self) -> bytes | None:
        return None

    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _is_too_long(self, data: bytes) -> bool:
        """Whether the head has not ended within HEAD_BYTES, however many pieces it comes in."""
        begun = self.conn.trailing_data[0]
        if len(begun) + len(data) <= HEAD_BYTES:
            return False
        return _BLANK_LINE.search((begun + data[:HEAD_BYTES])[:HEAD_BYTES]) is None

    def _watch(self) -> None:
        """Keeps one timer while it is the client's turn."""
        answered = self.conn.our_state in (h11.DONE, h11.MUST_CLOSE) and self.conn.their_state is h11.SEND_BODY
        if not (self._awaits_head() or answered or self._refused):
            self._stop_waiting()
        elif self._owed is None:
            self._owed = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._owed is not None:
            self._owed.cancel()
            self._owed = None

    def _give_up(self) -> None:
        if self._awaits_head() and self.conn.trailing_data[0]:
            self._refuse(408, f"The request's head did not arrive within {HEAD_SECONDS} seconds.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Ends the connection, with an answer where none has begun."""
        self._stop_waiting()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        headers = [("content-type", "text/plain; charset=utf-8"), ("connection", "close")]
        answer = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (answer, h11.Data(data=message.encode("ascii")), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        self.transport.write_eof()
        self._owed = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _watch_answer(self, before: int | None = None) -> None:
        """Looks now and then whether the client takes its answer; `before` is what waited for it the last time."""
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._watch_answer, left) if left else None


def choose_parser() -> None:
    """Makes it what uvicorn takes; BentoML lets nobody choose."""
    HTTP_PROTOCOLS["auto"] = f"{PlainHTTP.__module__}:{PlainHTTP.__qualname__}"


def in_origin_form(scope: Scope) -> Scope:
    """A request whose target is a whole URL, as clients send it to a proxy, with the URL's path alone (RFC 9112 §3.2.2)."""
    target = scope.get("raw_path", b"")
    if not target.lower().startswith((b"http://", b"https://")):
        return scope
    path = b"/" + target.split(b"/", 3)[3] if target.count(b"/") > 2 else b"/"
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path}
