"""BentoML's limit of time for a request, taken out: the app's own limits answer with the model's headers.

BentoML keeps a timer of half a kilobyte for every request until the limit has passed, however soon the request was
answered: at a thousand requests a second that is a hundred megabytes. It cannot be switched off in its configuration.
"""

from __future__ import annotations

from typing import Any

from bentoml._internal.server.http import traffic
from starlette.types import Receive, Scope, Send


async def _pass_on(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await self.app(scope, receive, send)


def remove_time_limit() -> None:
    """Makes BentoML's middleware of that name pass everything on; raises AttributeError where there is none any more."""
    traffic.TimeoutMiddleware.__call__ = _pass_on
