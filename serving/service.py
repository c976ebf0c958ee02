"""The BentoML service. BentoML gives the process, health, metrics and packaging; the routes are the mounted app's.

Start it with `python -m serving`, which verifies the bundle before BentoML starts.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, cast

import bentoml
from starlette.types import Receive, Scope, Send

from serving.headers import ModelHeaders
from serving.metrics import publish
from serving.routes import create_app
from serving.served import prepare
from serving.settings import read_settings

#: The command's process id, and the file that its worker leaves a refusal in; the command sets both.
SUPERVISOR, REFUSAL = "HALLMARK_SUPERVISOR", "HALLMARK_REFUSAL"

app = create_app()


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    """The app as a plain function: BentoML passes over a Starlette app where none of its routes match."""
    await app(scope, receive, send)


# The app bounds the time of a request itself: BentoML's own limit answers without the model's headers.
@bentoml.service(workers=1, traffic={"timeout": 24 * 3600})
@bentoml.asgi_app(mounted, path="/")
class Hallmark:
    """Answers with a verified bundle's model; see /openapi.json."""

    def __init__(self) -> None:
        try:
            app.state.served = prepare(read_settings())
        except Exception as error:  # raised again: BentoML alone would restart the worker for ever
            _give_up(error)
            raise
        publish(app.state.served.statement["predicate"], app.state.served.digest)

    def __is_ready__(self) -> bool:
        return app.state.served.check.passed

    @bentoml.on_shutdown
    def close(self) -> None:
        """Lets the batch in the model end."""
        app.state.served.batcher.close()


# BentoML's type asks for a function; it calls this as Starlette does, with the app first.
Hallmark.add_asgi_middleware(cast(Any, ModelHeaders), state=app.state)


def _give_up(error: Exception) -> None:
    """Ends the supervisor, which would start this worker again for ever."""
    if os.environ.get(SUPERVISOR) == str(os.getppid()):
        Path(os.environ[REFUSAL]).write_text(str(error), encoding="utf-8")
        os.kill(os.getppid(), signal.SIGTERM)
