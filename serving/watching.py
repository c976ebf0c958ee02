"""The outermost layer: times a request, counts its bytes, and tells metrics and access log when it is over."""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.datastructures import MutableHeaders, State
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.exchange import Exchange, open_exchange
from serving.headers import REQUEST_HEADER
from serving.log import AccessLog

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: A request id that a client may give; everything else gets a new one.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_PATH_LENGTH = 256
#: Signs that a path may have as they are (RFC 3986); all others are percent-encoded.
_PATH_SIGNS = "/:@!$&'()*+,;=~"


class Watching:
    """ASGI middleware for HTTP.

    Parameters
    ----------
    state : has the Watch as `watch` and the served model as `served`.
    routes : give a request the template that it is counted under.
    log : is written to after each request; None writes nothing.
    """

    def __init__(self, app: ASGIApp, state: State, routes: Sequence[BaseRoute], log: AccessLog | None) -> None:
        self.app, self._state, self._routes, self._log = app, state, routes, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        exchange = _begin(scope, self._routes)
        open_exchange(scope, exchange)
        try:
            await self.app(scope, _counted_receive(exchange, receive), _counted_send(exchange, send))
        finally:
            exchange.seconds = time.perf_counter() - started
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self._state.watch.answered(exchange)
        if self._log is not None:
            self._log.write(exchange, self._state.served.version)


def _counted_receive(exchange: Exchange, receive: Receive) -> Receive:
    async def counted() -> Message:
        message = await receive()
        exchange.bytes_in += len(message.get("body", b""))
        return message

    return counted


def _counted_send(exchange: Exchange, send: Send) -> Send:
    async def counted(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_HEADER] = exchange.request_id
        elif exchange.method != "HEAD":  # whose body the server leaves out
            exchange.bytes_out += len(message.get("body", b""))
        await send(message)

    return counted


def _begin(scope: Scope, routes: Sequence[BaseRoute]) -> Exchange:
    return Exchange(
        method=scope["method"] if scope["method"] in METHODS else "other",
        route=_template(scope, routes),
        path=quote(scope["path"], safe=_PATH_SIGNS, errors="replace")[:_PATH_LENGTH],
        client=_address(scope.get("client")),
        request_id=_request_id(scope),
    )


def _template(scope: Scope, routes: Sequence[BaseRoute]) -> str:
    """A path is the client's choice and there is no end of them; the templates are as many as the routes."""
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            return route.path_format
    return "unmatched"


def _address(client: Any) -> str | None:
    """The client's IP address; behind a proxy that the server trusts it is a header's word, so it must be one.

    Without the scope of IPv6, which that header's author may choose freely.
    """
    try:
        return str(ipaddress.ip_address(client[0].partition("%")[0])) if client else None
    except ValueError:
        return None


def _request_id(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == REQUEST_HEADER.lower().encode()]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return uuid.uuid4().hex
