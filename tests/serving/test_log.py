"""The access log: one line of JSON a request, whatever the request is."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from serving.exchange import Exchange
from serving.metrics import Metrics
from serving.middleware import AccessLog, Instrumentation
from serving.routes import create_app
from serving.served import Served
from tests.serving.conftest import running_service
from tests.serving.enclosed import enclosed
from tests.serving.pictures import digit, multipart, npy, png


class Logged(NamedTuple):
    client: TestClient
    stream: io.StringIO

    def line(self) -> dict[str, Any]:
        """The one line since the last look."""
        [line] = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return json.loads(line)


@pytest.fixture(scope="module")
def logged(served: Served) -> Iterator[Logged]:
    app = create_app()
    app.state.served, app.state.metrics = served, Metrics(CollectorRegistry())
    stream = io.StringIO()
    outer = Instrumentation(app, app.state, app.routes, AccessLog(stream))

    async def http_only(scope: Any, receive: Any, send: Any) -> None:
        """The client starts and stops an app by a scope that is no request."""
        await (outer if scope["type"] == "http" else app)(scope, receive, send)

    with TestClient(http_only, raise_server_exceptions=False, client=("2001:db8::7", 4)) as client:
        yield Logged(client, stream)


def test_a_line_says_what_was_asked_and_answered(logged: Logged, served: Served) -> None:
    body, kind = multipart("images", npy(np.stack([digit()[..., None]] * 3)))
    headers = {"Content-Type": kind, "X-Request-Id": "shop-4711.a_b~c"}
    response = logged.client.post("/predict_batch?explain=robustness", content=body, headers=headers)
    line = logged.line()
    assert abs(datetime.fromisoformat(line.pop("time")).timestamp() - time.time()) < 60
    assert 0 < line.pop("seconds") < 60
    assert line == {
        "method": "POST",
        "route": "/predict_batch",
        "path": "/predict_batch",
        "status": 200,
        "bytes_in": len(body),
        "bytes_out": len(response.content),
        "rows": 3,
        "problem": None,
        "version": served.version,
        "request_id": "shop-4711.a_b~c",
        "client": "2001:db8::7",
    }
    assert response.headers["x-request-id"] == "shop-4711.a_b~c"


def test_a_refusal_says_its_kind(logged: Logged) -> None:
    logged.client.post("/predict", files={"image": png(digit())[:30]})
    line = logged.line()
    assert (line["status"], line["problem"], line["rows"]) == (422, "broken-file", 0)
    logged.client.get("/evidence/nothing")
    line = logged.line()
    assert (line["problem"], line["route"], line["path"]) == ("not-found", "/evidence/{file}", "/evidence/nothing")


def test_a_failure_is_logged(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.routes.document", lambda: 1 / 0)
    logged.client.get("/openapi.json")
    line = logged.line()
    assert (line["status"], line["problem"]) == (500, "failed")


def test_the_body_of_a_head_request_is_not_counted_as_sent(logged: Logged) -> None:
    assert int(logged.client.head("/robustness").headers["content-length"]) > 0
    assert logged.line()["bytes_out"] == 0


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a%0a%7b%22forged%22:1%7d", "/a%0A%7B%22forged%22:1%7D"),
        ("/a%0d%1b[31m%7f%00", "/a%0D%1B%5B31m%7F%00"),
        ("/%e2%80%a8%c2%85%ff", "/%E2%80%A8%C2%85%EF%BF%BD"),
        ("/" + "a" * 5000, "/" + "a" * 255),
    ],
)
def test_a_path_cannot_forge_a_line(logged: Logged, path: str, shown: str) -> None:
    logged.client.get(path)
    text = logged.stream.getvalue()
    assert text.isascii() and text[:-1].isprintable()
    line = logged.line()
    assert (line["path"], line["route"]) == (shown, "unmatched")


@pytest.mark.parametrize("given", [b"a b", b"", b"x" * 129, b'a"b', b"a\tb", b"caf\xe9", b"a;b"])
def test_an_odd_request_id_is_replaced(logged: Logged, given: bytes) -> None:
    response = logged.client.get("/robustness", headers={"X-Request-Id": given})
    line = logged.line()
    assert response.headers["x-request-id"] == line["request_id"] != given.decode("latin-1")
    assert len(line["request_id"]) == 32 and int(line["request_id"], 16) > 0


@pytest.mark.parametrize(
    ("host", "shown"),
    [("10.0.0.9", "10.0.0.9"), ('"} {', None), ("", None), ("fe80::1%\x1b[2J\x7f", "fe80::1")],
)
def test_only_an_address_is_logged_as_one(served: Served, host: str, shown: str | None) -> None:
    """Behind a trusted proxy the server takes it from a header."""
    app = create_app()
    app.state.served, app.state.metrics = served, Metrics(CollectorRegistry())
    stream = io.StringIO()
    TestClient(Instrumentation(app, app.state, app.routes, AccessLog(stream)), client=(host, 1)).get("/robustness")
    assert json.loads(stream.getvalue())["client"] == shown


def test_a_stream_that_fails_harms_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    AccessLog(Full()).write(Exchange(), "0" * 12)


@pytest.mark.parametrize(("setting", "lines"), [("yes", 1), ("no", 0)])
def test_it_can_be_switched_off(served: Served, capsys: pytest.CaptureFixture[str], setting: str, lines: int) -> None:
    with enclosed(served, access_log=setting) as client:
        assert "x-request-id" in client.get("/robustness").headers
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_a_real_service_writes_one_line_a_request_and_bentoml_none(folders: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with running_service(folders, log) as service:
        probes = _ask(service)
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    mine = [line for line in lines if line["request_id"].startswith("mine-")]
    assert [(line["request_id"], line["status"], line["client"]) for line in mine] == [
        (f"mine-{number}", status, "127.0.0.1") for number, status in enumerate(probes)
    ]
    assert [line["route"] for line in mine] == ["/healthz", "/metrics", "/predict", "unmatched", "unmatched"]
    assert "bentoml.access" not in text and "(scheme=http" not in text and "secret" not in text


def _ask(service: httpx.Client) -> list[int]:
    """The status of each of five requests, whose ids are numbered."""
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/healthz", {}),
        ("GET", "/metrics", {}),
        ("POST", "/predict", {"files": {"image": png(digit())}}),
        ("GET", "/%0a{}?secret=1", {}),
        ("OPTIONS", "/nothing", {"headers": {"Authorization": "secret"}}),
    ]
    statuses: list[int] = []
    for number, (method, path, options) in enumerate(asked):
        headers = {**options.pop("headers", {}), "X-Request-Id": f"mine-{number}"}
        statuses.append(service.request(method, path, headers=headers, **options).status_code)
    return statuses
