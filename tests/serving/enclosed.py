"""The app in its shell, without BentoML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.metrics import Watch
from serving.middleware.instrumentation import Shell
from serving.routes import create_app
from serving.served import Served


@contextmanager
def enclosed(served: Served, watch: Watch | None = None, **settings: Any) -> Iterator[TestClient]:
    """A client of the app with some settings changed; `watch` counts where one is given."""
    app = create_app()
    app.state.served = replace(served, settings=replace(served.settings, **settings))
    app.state.watch = watch or Watch(CollectorRegistry())
    with TestClient(Shell(app, app), raise_server_exceptions=False) as client:
        yield client
