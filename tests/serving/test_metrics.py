"""/metrics: what is counted, once, and under labels whose values a client cannot choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from bundle.bundle import Bundle, open_bundle
from serving.exchange import KINDS
from serving.metrics import Metrics, publish_model
from serving.model.batcher import Batcher
from serving.routes import create_app
from serving.served import Served, prepare
from tests.serving.conftest import running_service
from tests.serving.enclosed import enclosed
from tests.serving.pictures import digit, npy, png

TOKEN = "a-token-of-some-length"


class Watched(NamedTuple):
    client: TestClient
    registry: CollectorRegistry

    def value(self, name: str, **labels: str) -> float:
        """A sample; 0 where it has not been set."""
        return self.registry.get_sample_value(f"hallmark_{name}", labels) or 0.0

    def refusals(self) -> dict[str, float]:
        """What has been refused, by kind."""
        return {kind: self.value("refusals_total", kind=kind) for kind in KINDS}


@pytest.fixture
def watched(served: Served) -> Iterator[Watched]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    mine = prepare(served.settings, metrics.observe)
    metrics.publish(mine)
    with enclosed(mine, metrics) as client:
        yield Watched(client, registry)


@pytest.fixture(scope="module")
def bundle(folders: Path) -> Bundle:
    return open_bundle(folders / "bundle")


def test_gauges_have_every_claim_and_bound(bundle: Bundle) -> None:
    registry = CollectorRegistry()
    publish_model(bundle.predicate, bundle.digest, registry)
    for claim in bundle.predicate["claims"]:
        keys = {key: claim[key] for key in ("setting", "threat", "attack") if key in claim}
        assert (
            registry.get_sample_value(f"hallmark_{claim['metric']}", {**keys, "version": bundle.version})
            == claim["value"]
        )
    certified = next(item for item in bundle.predicate["bounds"] if item.get("radius") == 0.25)
    labels = {"version": bundle.version, "classifier": "smoothed-0.25", "norm": "l2", "radius": "0.25"}
    assert registry.get_sample_value("hallmark_certified_accuracy", labels) == certified["value"]
    proved = next(item for item in bundle.predicate["bounds"] if item.get("eps_255") == 2)
    labels = {"version": bundle.version, "classifier": "served", "norm": "linf", "radius": "2/255"}
    assert registry.get_sample_value("hallmark_certified_accuracy", labels) == proved["value"]


def test_the_host_and_its_self_check_are_there_from_the_start(watched: Watched, bundle: Bundle) -> None:
    lines = watched.client.get("/metrics").text.splitlines()
    assert f'hallmark_self_check_rows{{version="{bundle.version}"}} 64.0' in lines
    assert f'hallmark_self_check_moved{{version="{bundle.version}"}} 0.0' in lines
    assert any(line.startswith("hallmark_service_info{") and 'threads="1"' in line for line in lines)
    assert 'hallmark_refusals_total{kind="busy"} 0.0' in lines
    assert f'hallmark_predictions_total{{class="{bundle.class_names[3]}"}} 0.0' in lines


def test_requests_are_timed_by_template_method_and_status(watched: Watched) -> None:
    for path in ("/evidence/model.onnx", "/evidence/network.json", "/samples/0.png", "/samples/1.png"):
        assert watched.client.get(path).status_code == 200
    for _ in range(20):
        watched.client.get(f"/{uuid4()}")
        watched.client.request(f"M{uuid4().hex}", "/versions")
    count = "request_seconds_count"
    assert watched.value(count, route="/evidence/{file}", method="GET", status="200") == 2
    assert watched.value(count, route="/samples/{number}.png", method="GET", status="200") == 2
    assert watched.value(count, route="unmatched", method="GET", status="404") == 20
    assert watched.value(count, route="/versions", method="other", status="405") == 20
    routes = {route.path_format for route in create_app().routes}  # type: ignore[attr-defined]
    [family] = [family for family in watched.registry.collect() if family.name == "hallmark_request_seconds"]
    assert {sample.labels["route"] for sample in family.samples} <= routes | {"unmatched"}


def test_batches_and_predicted_classes_are_counted(watched: Watched, bundle: Bundle) -> None:
    answers = watched.client.post("/predict_batch", files={"images": npy(bundle.images["clean"])}).json()["predictions"]
    answers.append(watched.client.post("/predict", files={"image": png(digit())}).json())
    for label, name in enumerate(bundle.class_names):
        expected = sum(answer["label"] == label for answer in answers)
        assert watched.value("predictions_total", **{"class": name}) == expected
    assert watched.value("batch_rows_sum") == len(answers) == 61
    assert watched.value("batch_rows_count") == watched.value("model_seconds_count") == 2
    assert watched.value("model_seconds_sum") > 0


def test_rows_that_wait_are_a_gauge() -> None:
    assert b"\nhallmark_queue_rows 7.0\n" in Metrics(CollectorRegistry()).text(queued=7)


def _array(shape: tuple[int, ...], kind: type[np.generic] = np.uint8) -> dict[str, bytes]:
    return {"images": npy(np.zeros(shape, kind))}


REFUSED: dict[str, Callable[[TestClient], httpx.Response]] = {
    "bad-form": lambda client: client.post("/predict", files={"other": b""}),
    "bad-query": lambda client: client.post("/predict?explain=nothing", files={"image": png(digit())}),
    "not-found": lambda client: client.get("/evidence/nothing"),
    "wrong-method": lambda client: client.delete("/robustness"),
    "too-large": lambda client: client.post("/predict_batch", files=_array((101, 8, 8, 1))),
    "wrong-type": lambda client: client.post("/predict_batch", content=b"{}", headers={"Content-Type": "text/plain"}),
    "broken-file": lambda client: client.post("/predict", files={"image": png(digit())[:40]}),
    "wrong-pixels": lambda client: client.post("/predict_batch", files=_array((1, 8, 8, 1), np.float32)),
    "wrong-shape": lambda client: client.post("/predict_batch", files=_array((1, 8, 8, 3))),
}


def _is_refused_once(watched: Watched, kind: str, ask: Callable[[TestClient], httpx.Response], version: str) -> None:
    before = watched.refusals()
    response = ask(watched.client)
    assert (response.status_code, response.headers["content-type"]) == (KINDS[kind][0], "application/problem+json")
    assert response.json()["type"] == f"urn:hallmark:problem:{kind}"
    assert response.headers["x-model-version"] == version
    assert watched.refusals() == {**before, kind: before[kind] + 1}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_is_counted_once_under_its_kind(watched: Watched, served: Served, kind: str) -> None:
    _is_refused_once(watched, kind, REFUSED[kind], served.version)


def test_a_failure_is_counted_once(watched: Watched, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.routes.document", lambda: 1 / 0)
    _is_refused_once(watched, "failed", lambda client: client.get("/openapi.json"), served.version)


def test_a_full_queue_and_the_outer_layers_own_refusals_are_counted_once(served: Served) -> None:
    registry = CollectorRegistry()
    full = replace(
        served, batcher=Batcher(lambda rows: np.zeros((len(rows), 10), np.float32), batch_rows=1, queue_rows=0)
    )
    preflight = {"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
    with enclosed(full, Metrics(registry), token=TOKEN, cors="https://page.example") as client:
        watched = Watched(client, registry)
        _is_refused_once(watched, "not-allowed", lambda client: client.get("/metrics"), served.version)
        _is_refused_once(
            watched, "not-shared", lambda client: client.options("/predict", headers=preflight), served.version
        )
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        _is_refused_once(
            watched, "busy", lambda client: client.post("/predict", files={"image": png(digit())}), served.version
        )


def _samples(service: httpx.Client) -> dict[tuple[str, Any], float]:
    families = text_string_to_metric_families(service.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_real_service_shows_ours_and_nothing_that_a_client_can_blow_up(service: httpx.Client, bundle: Bundle) -> None:
    service.get(f"/{uuid4()}")
    before = _samples(service)
    for _ in range(30):
        service.get(f"/{uuid4()}")
    after = _samples(service)
    assert set(after) - set(before) <= {(f"hallmark_request_seconds_{end}", key) for end, key in _metrics_keys(after)}
    unmatched = frozenset({("route", "unmatched"), ("method", "GET"), ("status", "404")})
    assert (
        after["hallmark_request_seconds_count", unmatched] == before["hallmark_request_seconds_count", unmatched] + 30
    )
    assert not any("bentoml" in name for name, _ in after)
    assert after["process_resident_memory_bytes", frozenset()] > 0
    claim = next(
        item for item in bundle.predicate["claims"] if item.get("attack") == "all" and item["setting"] == "served"
    )
    labels = {"attack": "all", "setting": "served", "threat": claim["threat"], "version": bundle.version}
    assert after["hallmark_robust_accuracy", frozenset(labels.items())] == claim["value"]
    assert sum(name == "hallmark_clean_accuracy" for name, _ in after) == 2
    certified = [bound for bound in bundle.predicate["bounds"] if bound["metric"] == "certified_accuracy"]
    assert sum(name == "hallmark_certified_accuracy" for name, _ in after) == len(certified) == 8


def _metrics_keys(samples: dict[tuple[str, Any], float]) -> list[tuple[str, Any]]:
    """The series of /metrics itself, which the first look at it adds."""
    return [
        (name.rpartition("_")[2], key)
        for name, key in samples
        if name.startswith("hallmark_request_seconds_") and ("route", "/metrics") in key
    ]


def test_a_real_service_counts_in_memory_alone(folders: Path, tmp_path: Path) -> None:
    """A file that is mapped into memory would end it on a full disk; its folder for temporary files stays empty."""
    with running_service(folders, tmp_path / "log.txt", TMPDIR=str(tmp_path)) as service:
        for path in ("/metrics", "/nothing", "/versions"):
            service.get(path)
        assert service.post("/predict", files={"image": png(digit())}).status_code == 200
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "log.txt"]
        assert not [name for name, _ in _samples(service) if name.endswith("_created")]


def test_a_real_services_batches_and_predictions_are_counted(service: httpx.Client) -> None:
    before = _samples(service)
    name = service.post("/predict", files={"image": png(digit())}).json()["class"]
    after = _samples(service)
    key = ("hallmark_predictions_total", frozenset({("class", name)}))
    assert after[key] == before[key] + 1
    for name in ("hallmark_batch_rows_sum", "hallmark_model_seconds_count"):
        assert after[name, frozenset()] == before.get((name, frozenset()), 0) + 1
    assert after["hallmark_queue_rows", frozenset()] == 0
