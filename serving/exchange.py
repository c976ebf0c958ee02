"""A request and its answer, as everything around the routes sees them.

What is noted about one request while it is answered; metrics and access log read it at the end.

What every answer carries, errors too: which model answered, and what a browser may do with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """The exchange of a request; where nobody watches, one that nobody reads."""
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
