"""Everything around the routes, BentoML's own too: access, pages of other origins, instrumentation, the access log.

The bearer token: who has it may ask, and nobody else learns more than that the service is up. Other origins: a browser
lets their pages read the answers only where the settings name them. The outermost layer times a request, counts its
bytes, and tells metrics and access log when it is over: one line of JSON, of which no client can make two.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import re
import sys
import time
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, State
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundle.errors import HallmarkError
from serving.exchange import (
    DIGEST_HEADER,
    REQUEST_HEADER,
    VERSION_HEADER,
    Exchange,
    ModelHeaders,
    Problem,
    open_exchange,
)
from serving.parser import in_origin_form

#: Platforms probe these and cannot be expected to know a token; they say nothing but yes or no.
OPEN_PATHS = ("/healthz", "/livez", "/readyz")
TOKEN_LENGTH = 16
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hallmark"'}


def check_token(token: str) -> None:
    """Raises HallmarkError where a token is too short, or has a character that a header cannot carry as it is."""
    if len(token) < TOKEN_LENGTH:
        raise HallmarkError(f"token: must have at least {TOKEN_LENGTH} characters, has {len(token)}")
    if not all("!" <= character <= "~" for character in token):
        raise HallmarkError("token: must be of visible ASCII characters, without spaces")


class BearerToken:
    """ASGI middleware for HTTP: lets a request through that carries the token, before anything of its body is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if scope["path"] in OPEN_PATHS or (len(given) == 1 and self._is_right(given[0])):
            await self.app(scope, receive, send)
        else:
            await _token_refused(len(given)).response()(scope, receive, send)

    def _is_right(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        # In constant time: an answer's delay must not tell how much of a guess is right.
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(b" "), self._token)


def _token_refused(given: int) -> Problem:
    if not given:
        return Problem("not-allowed", "Authorization: is missing; send Bearer and this service's token.", _CHALLENGE)
    challenge = {name: f'{value}, error="invalid_token"' for name, value in _CHALLENGE.items()}
    return Problem("not-allowed", "Authorization: is not Bearer and this service's token.", challenge)


CORS_METHODS = ("GET", "POST")
CORS_SENT = ("Authorization", "Content-Type", "If-None-Match", REQUEST_HEADER)
CORS_READ = (VERSION_HEADER, DIGEST_HEADER, REQUEST_HEADER, "ETag", "Retry-After")


def read_origins(cors: str) -> list[str]:
    """The origins of a setting, separated by spaces; raises HallmarkError where one is not spelt as browsers spell it."""
    origins = cors.split()
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise HallmarkError(
                f"cors: {origin} is no origin; write http or https, ://, the host and its port where it is not "
                "the usual one, in small letters, and nothing behind"
            )
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        usual = {"http": 80, "https": 443}.get(parts.scheme, parts.port)
        spelt = f"{parts.scheme}://{parts.netloc}"
        return text == spelt == text.lower() and bool(parts.hostname) and "@" not in text and parts.port != usual
    except ValueError:  # a port that is none, or a bracket that is not closed
        return False


class Origins(CORSMiddleware):
    """Answers preflights, and marks the answers that a page of these origins may read. Cookies are never asked for."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=CORS_METHODS, allow_headers=CORS_SENT, expose_headers=CORS_READ
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's answer; its refusal as a problem document."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        detail = (
            f"preflight: a page may send {' and '.join(CORS_METHODS)} with the headers {', '.join(CORS_SENT)}, from the "
            "origins that this service is set to share with."
        )
        return Problem("not-shared", detail, {"Vary": response.headers["vary"]}).response()


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: A request id that a client may give; everything else gets a new one.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_PATH_LENGTH = 256
#: Signs that a path may have as they are (RFC 3986); all others are percent-encoded.
_PATH_SIGNS = "/:@!$&'()*+,;=~"


class Instrumentation:
    """ASGI middleware for HTTP.

    Parameters
    ----------
    state : has the Metrics as `metrics` and the served model as `served`.
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
        self._state.metrics.answered(exchange)
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


class Middleware:
    """ASGI middleware; a request passes the layers from the outside in, an answer from the inside out.

    So a refusal of any layer has the headers and is counted, and a preflight, which can carry no token, is answered.

    Parameters
    ----------
    app : what is inside; BentoML's app, or the mounted one alone.
    mounted : the app of create_app(), whose state has `served` and `metrics` before the first request.
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
        return Instrumentation(ModelHeaders(app, state), state, self._mounted.routes, log)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        # BentoML's mount passes over a path with a line break, or that is none (`*`), and would answer it itself, with no
        # problem document.
        passed_over = "\n" in scope["path"] or not scope["path"].startswith("/")
        await (self._mounted if passed_over else self.app)(scope, receive, send)
