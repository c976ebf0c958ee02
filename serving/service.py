"""The BentoML service. BentoML gives the process, health and packaging; the routes are the mounted app's.

Start it with `python -m serving`, which verifies the bundle before BentoML starts.

BentoML's limit of time for a request is taken out: the app's own limits answer with the model's headers. BentoML keeps a
timer of half a kilobyte for every request until the limit has passed, however soon the request was answered: at a
thousand requests per second that is a hundred megabytes. It cannot be switched off in its configuration.
"""

from __future__ import annotations

from typing import Any, cast

import bentoml
from bentoml._internal.server.http import traffic
from starlette.types import Receive, Scope, Send

from serving.metrics import Metrics
from serving.middleware import Middleware
from serving.parser import choose_parser
from serving.routes import create_app
from serving.served import prepare
from serving.settings import read_settings
from serving.supervisor import check_start, end_with_supervisor, give_up


async def _pass_on(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
    await self.app(scope, receive, send)


def remove_time_limit() -> None:
    """Makes BentoML's middleware of that name pass everything on; raises AttributeError where there is none any more."""
    traffic.TimeoutMiddleware.__call__ = _pass_on


app = create_app()


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """The app as a plain function: BentoML passes over a Starlette app where none of its routes match."""
    await app(scope, receive, send)


remove_time_limit()
choose_parser()


@bentoml.service(
    workers=1,
    metrics={"enabled": False},  # the mounted app has its own: serving/metrics.py
    logging={"access": {"enabled": False}},  # and its own: serving/middleware.py
    tracing={"excluded_urls": ".*"},  # spans that nobody collects cost a tenth of a request
)
@bentoml.asgi_app(mounted, path="/")
class Hallmark:
    """Answers with a verified bundle's model; see /openapi.json."""

    def __init__(self) -> None:
        try:
            settings = read_settings()
            end_with_supervisor(3 * settings.seconds)  # for a body, its decoding and its answer
            app.state.metrics = Metrics()
            app.state.served = prepare(settings, app.state.metrics.observe)
        except Exception as error:  # raised again: BentoML alone would restart the worker for ever
            give_up(error)
            raise
        app.state.metrics.publish(app.state.served)

    def __is_ready__(self) -> bool:
        return app.state.served.check.passed

    @bentoml.on_deployment
    def check() -> None:
        """Refuses a bundle before there is a worker, however the service is started."""
        check_start()

    @bentoml.on_shutdown
    def close(self) -> None:
        """Lets the batch in the model end."""
        app.state.served.batcher.close()


# BentoML's type asks for a function; it calls this as Starlette does, with the app first.
Hallmark.add_asgi_middleware(cast(Any, Middleware), mounted=app)
