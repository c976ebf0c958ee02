"""Everything around the routes, BentoML's own too: watching, headers, other origins, the token."""

from __future__ import annotations

import sys
from functools import cached_property

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access import BearerToken
from serving.cors import Origins, read_origins
from serving.headers import ModelHeaders
from serving.log import AccessLog
from serving.parser import in_origin_form
from serving.watching import Watching


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
