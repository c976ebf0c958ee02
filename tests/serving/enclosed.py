"""The app in its shell, without BentoML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.metrics import Metrics
from serving.middleware import Middleware
from serving.routes import create_app
from serving.served import Served


@contextmanager
def enclosed(served: Served, metrics: Metrics | None = None, **settings: Any) -> Iterator[TestClient]:
    """A client of the app with some settings changed; `metrics` counts where one is given."""
    app = create_app()
    app.state.served = replace(served, settings=replace(served.settings, **settings))
    app.state.metrics = metrics or Metrics(CollectorRegistry())
    with TestClient(Middleware(app, app), raise_server_exceptions=False) as client:
        yield client
