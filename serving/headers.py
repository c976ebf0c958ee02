"""What every answer carries, errors too: which model answered, and what a browser may do with it."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
