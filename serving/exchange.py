"""A request and its answer, as everything around the routes sees them: what is noted, what is added, what is refused.

What is noted about a request while it is answered, metrics and access log read at the end. Every answer says which model
answered, and what a browser may do with it. A refusal is a 4xx or 5xx with a problem document (RFC 9457) whose detail is
one sentence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import MutableHeaders, State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bundle.errors import escaped

_KEY = "hallmark.exchange"


@dataclass(slots=True)
class Exchange:
    """One request and its answer. What a client chose freely is in `path` alone.

    method : one of HTTP's own, or `other`.
    route : the template of the route, such as /evidence/{file}, or `unmatched`.
    path : what was asked for, percent-encoded and cut off, without the query.
    client : the IP address of the client, None where it is not known.
    request_id : letters, digits and ._~- only.
    began : when the request's head had arrived.
    seconds : until the last byte of the answer was handed on.
    status : of the answer; None where the request was given up before there was one.
    bytes_in, bytes_out : of the bodies that were read and sent.
    rows : images that were asked about, once they passed the checks.
    problem : the kind of the refusal; None where it was none.
    predicted : how often each class was the answer.
    """

    method: str = "other"
    route: str = "unmatched"
    path: str = ""
    client: str | None = None
    request_id: str = ""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    rows: int = 0
    problem: str | None = None
    predicted: Counter[str] = field(default_factory=Counter)


def open_exchange(scope: MutableMapping[str, Any], exchange: Exchange) -> None:
    """Ties an exchange to a request."""
    scope[_KEY] = exchange


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange:
    """The exchange of a request; where nothing notes it, one that nobody reads."""
    return scope.setdefault(_KEY, Exchange())


VERSION_HEADER = "X-Model-Version"
DIGEST_HEADER = "X-Model-Digest"
REQUEST_HEADER = "X-Request-Id"

#: For answers that are data; a page says more.
NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
#: Nobody else's page may frame, open or embed an answer, and no page of this service asks for a device.
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class ModelHeaders:
    """ASGI middleware; `state.served` is the served model, once there is one."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_marked if scope["type"] == "http" else send)

    def _mark(self, headers: MutableHeaders) -> None:
        served: Any = getattr(self.state, "served", None)
        if served is not None:
            headers[VERSION_HEADER] = served.version
            headers[DIGEST_HEADER] = served.digest
        headers.update(SECURITY)
        headers.setdefault("Content-Security-Policy", NO_CONTENT)
        if "sandbox" not in headers["Content-Security-Policy"]:  # HTML's standard shows no page that has both
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers.setdefault("Cache-Control", "no-cache")


MEDIA_TYPE = "application/problem+json"
#: Goes with every `busy`: in how many seconds to ask again.
RETRY = {"Retry-After": "1"}

#: Kind of a problem → status and title. The kind is the end of the document's `type`.
KINDS: dict[str, tuple[int, str]] = {
    "bad-form": (400, "The request's form cannot be read"),
    "bad-query": (400, "The query asks for something that is not known"),
    "not-allowed": (401, "The token is missing or wrong"),
    "not-shared": (403, "A page of another origin may not do this"),
    "not-found": (404, "There is no such thing here"),
    "wrong-method": (405, "This route takes another method"),
    "slow-body": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "wrong-type": (415, "The request has the wrong type"),
    "broken-file": (422, "The file cannot be read"),
    "wrong-pixels": (422, "The pixels are not what the model takes"),
    "wrong-shape": (422, "The shape is not what the model takes"),
    "failed": (500, "The service failed"),
    "busy": (503, "The service is busy"),
}


class Problem(Exception):
    """A refusal; `detail` is one sentence that says what is wrong, where, and what would be right."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.kind, self.detail, self.headers = kind, escaped(detail), dict(headers or {})
        super().__init__(self.detail)
        self.status, self.title = KINDS[kind]

    def response(self) -> Response:
        """The problem document."""
        document = {
            "type": f"urn:hallmark:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return _ProblemResponse(self.kind, document, self.status, self.headers)


class _ProblemResponse(JSONResponse):
    """Notes its kind when it is sent, so that whoever refuses is counted once."""

    media_type = MEDIA_TYPE

    def __init__(self, kind: str, document: Mapping[str, object], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(document, status, headers)
        self._kind = kind

    def render(self, content: object) -> bytes:
        """As JSON in UTF-8; what no encoding has, half a surrogate pair in a client's word, as JSON's escape."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange_of(scope).problem = self._kind
        await super().__call__(scope, receive, send)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler of a Problem."""
    assert isinstance(error, Problem)
    return error.response()


async def answer_routing_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of its own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path}: does not take {request.method}; use {' or '.join(sorted(allowed.split(', ')))}."
        return Problem("wrong-method", detail, error.headers).response()
    return Problem("not-found", f"{request.url.path}: there is no such route; GET / shows them.").response()


async def answer_failure(request: Request, error: Exception) -> Response:
    """Starlette's handler of everything unforeseen; the error itself goes to the log."""
    return Problem("failed", f"{request.url.path}: failed inside the service; its log says why.").response()
