"""A real service: BentoML's process, real HTTP, many clients at once."""

from __future__ import annotations

import asyncio
import http.client
import inspect
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import bentoml._internal.server.base_app
import httpx
import numpy as np
import pytest
from bentoml._internal.server.http.traffic import TimeoutMiddleware

import serving.service  # noqa: F401  takes BentoML's limit out
from bundle.bundle import Bundle, open_bundle
from bundle.served.runtime import OnnxClassifier
from serving.model.batcher import softmax
from tests.serving.pictures import npy, png

READ = ["/", "/robustness", "/attestation", "/versions", "/openapi.json", "/healthz", "/livez", "/readyz", "/metrics"]
REFUSED = ["/nothing", "/evidence/nothing", "/versions/nothing", "/static/nothing", "/samples/99.png", "/predict"]


@pytest.fixture(scope="module")
def bundle(folders: Path) -> Bundle:
    return open_bundle(folders / "bundle")


@pytest.fixture(scope="module")
def probabilities(bundle: Bundle) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the ONNX file answers for each clean image."""
    return softmax(OnnxClassifier(bundle.model, threads=1, device="cpu").logits(bundle.images["clean"]))


def _agrees(answer: dict[str, Any], expected: np.ndarray[Any, np.dtype[np.float64]], names: list[str]) -> bool:
    found = [answer["probabilities"][name] for name in names]
    right = (names[int(expected.argmax())], int(expected.argmax()))
    return (answer["class"], answer["label"]) == right and bool(np.allclose(found, expected, atol=1e-6))


@pytest.mark.parametrize("path", [*READ, *REFUSED, "/evidence/model.onnx", "/static/page.js", "/samples/0.png"])
def test_every_answer_says_which_model_answered(service: httpx.Client, bundle: Bundle, path: str) -> None:
    response = service.get(path)
    assert (response.status_code < 400) == (path not in REFUSED)
    assert response.headers["x-model-version"] == bundle.version
    assert response.headers["x-model-digest"] == bundle.digest
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in response.headers["content-security-policy"]


def test_batch_answers_are_the_onnx_files_row_by_row(
    service: httpx.Client, bundle: Bundle, probabilities: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    response = service.post("/predict_batch", files={"images": npy(bundle.images["clean"])})
    answers = response.json()["predictions"]
    assert len(answers) == len(probabilities) == 60
    assert all(map(lambda pair: _agrees(*pair, bundle.class_names), zip(answers, probabilities, strict=True)))


def test_bad_requests_among_good_ones_change_nothing_for_their_neighbours(
    service: httpx.Client, bundle: Bundle, probabilities: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    files = [png(image[..., 0]) for image in bundle.images["clean"]]

    def ask(number: int) -> bool:
        row = number % len(files)
        if number % 3 == 0:
            return service.post("/predict", files={"image": files[row][: 20 + row]}).status_code == 422
        if number % 7 == 0:
            return (
                service.post("/predict_batch", files={"images": npy(np.zeros((2, 4, 4, 1), np.uint8))}).status_code
                == 422
            )
        response = service.post("/predict", files={"image": files[row]})
        return response.status_code == 200 and _agrees(response.json(), probabilities[row], bundle.class_names)

    with ThreadPoolExecutor(16) as clients:
        assert all(clients.map(ask, range(300)))


def test_no_path_leads_out_of_the_bundle(service: httpx.Client, folders: Path) -> None:
    """Sent as they are: httpx would tidy the paths up."""
    (folders / "secret.txt").write_text("hidden words")
    connection = http.client.HTTPConnection(service.base_url.host, service.base_url.port or 80)
    for path in (
        "/evidence/../secret.txt",
        "/evidence/..%2fsecret.txt",
        "/evidence/%2e%2e/secret.txt",
        f"/evidence/{folders}/secret.txt",
        "/evidence//etc/passwd",
        "/evidence/model.onnx%00.txt",
        "/evidence/.",
        "/static/../page.py",
        "/static/..%2f__init__.py",
        "/versions/..%2f..%2fsecret.txt",
        "/samples/../../secret.txt",
        "/evidence/model.onnx%0A",
    ):
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 404 and b"hidden words" not in body and body.startswith(b'{"type":"urn:hallmark'), (
            path
        )


def test_a_body_that_is_too_large_gets_its_answer(service: httpx.Client) -> None:
    response = service.post("/predict", files={"image": bytes(12 * 1024 * 1024)})
    assert response.status_code == 413
    assert service.get("/readyz").status_code == 200


def test_bentomls_limit_of_time_keeps_no_timer_for_a_request() -> None:
    """It would hold half a kilobyte a request for as long as the limit, and cut off what the app still answers."""
    timers: list[float] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask() -> list[Any]:
        loop, sent = asyncio.get_running_loop(), list[Any]()
        later = loop.call_later
        loop.call_later = lambda delay, *rest, **given: timers.append(delay) or later(delay, *rest, **given)  # type: ignore[method-assign]

        async def send(message: Any) -> None:
            sent.append(message)

        await TimeoutMiddleware(answer, 0.01)({"type": "http"}, lambda: None, send)
        return sent

    assert [message["status"] for message in asyncio.run(ask())] == [200]
    assert 0.01 not in timers


def test_bentoml_still_asks_for_its_limit() -> None:
    """Where its middleware is another one, what serving.service takes out is no longer what it was."""
    source = inspect.getsource(bentoml._internal.server.base_app)
    assert "from .http.traffic import TimeoutMiddleware" in source
