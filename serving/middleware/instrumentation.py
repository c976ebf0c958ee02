"""The outermost layer: times a request, counts its bytes, and tells metrics and access log when it is over.

Everything around the routes, BentoML's own too: this layer, headers, other origins, the token.

The access log: one line of JSON a request, of which no client can make two.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import sys
import time
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TextIO
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders, State
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.exchange import REQUEST_HEADER, Exchange, ModelHeaders, open_exchange
from serving.middleware.access import BearerToken, Origins, read_origins
from serving.parser import in_origin_form

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


class Shell:
    """ASGI middleware; a request passes the layers from the outside in, an answer from the inside out.

    So a refusal of any layer has the headers and is counted, and a preflight, which can carry no token, is answered.

    Parameters
    ----------
    app : what is inside; BentoML's app, or the mounted one alone.
    mounted : the app of create_app(), whose state has `served` and `watch` before the first request.
    """

    def __init__(self, app: ASGIApp, mounted: Starlette) -> None:
        self.app, self._mounted = app, mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        layers = self._layers if scope["type"] == "http" else self.app
        await layers(in_origin_form(scope), receive, send)

    @cached_property
    def _layers(self) -> ASGIApp:
        """Made at the first request: the settings are those of the served model."""
        state = self._mounted.state
        settings = state.served.settings
        app = BearerToken(self._inside, settings.token) if settings.token else self._inside
        app = Origins(app, read_origins(settings.cors)) if settings.cors else app
        log = AccessLog(sys.stdout) if settings.access_log == "yes" else None
        return Watching(ModelHeaders(app, state), state, self._mounted.routes, log)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        # BentoML's mount passes over a path with a line break, or that is none (`*`), and would answer it itself, with no
        # problem document.
        passed_over = "\n" in scope["path"] or not scope["path"].startswith("/")
        await (self._mounted if passed_over else self.app)(scope, receive, send)


class AccessLog:
    """Writes lines to a stream. There is no image, no token and no query in them, and no header but X-Request-Id."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, exchange: Exchange, version: str) -> None:
        """One line about a request that is over; `version` is the model's. A stream that fails harms no request."""
        with contextlib.suppress(OSError):
            self._stream.write(json.dumps(_line(exchange, version)) + "\n")  # which escapes line breaks
            self._stream.flush()


def _line(exchange: Exchange, version: str) -> dict[str, Any]:
    return {
        "time": exchange.began.isoformat(timespec="milliseconds"),
        "method": exchange.method,
        "route": exchange.route,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 6),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "rows": exchange.rows,
        "problem": exchange.problem,
        "version": version,
        "request_id": exchange.request_id,
        "client": exchange.client,
    }
