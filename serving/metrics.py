"""Prometheus: how requests, batches and predictions go; and, as gauges, what a service knows from its start: the measured
accuracies, the host, its self-check.

BentoML's own metrics are switched off: they take the raw path as a label, so a client that asks for ever new paths
fills the service's memory. Here every label has a known set of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)

from bundle.pages.headline import main_names, robust_claim
from bundle.table.outcomes import SETTINGS
from serving.exchange import KINDS, Exchange
from serving.served import Served

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: BentoML asks for numbers in files that are mapped into memory, so that several workers can add theirs up. There is one
#: worker, and on a full disk writing to such a file ends the process by a signal, without a word.
values.ValueClass = values.MutexValue
disable_created_metrics()  # a second series for each, which says when it began

MODEL_SECONDS = (0.0001, 0.00025, 0.0005, *REQUEST_SECONDS)
BATCH_ROWS = tuple(1 << power for power in range(13))


class Metrics:
    """What the service counts about itself; one per process, since a registry takes each name once."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._requests = Histogram(
            "hallmark_request_seconds",
            "Seconds from a request's head to the end of its answer; status is none where there was no answer.",
            ["route", "method", "status"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._rows = Histogram(
            "hallmark_batch_rows", "Rows of one call of the model.", buckets=BATCH_ROWS, registry=registry
        )
        self._model = Histogram(
            "hallmark_model_seconds", "Seconds of one call of the model.", buckets=MODEL_SECONDS, registry=registry
        )
        self._queue = Gauge("hallmark_queue_rows", "Rows that wait.", registry=registry)
        self._refusals = Counter("hallmark_refusals", "Refusals by kind.", ["kind"], registry=registry)
        self._predictions = Counter("hallmark_predictions", "Rows by predicted class.", ["class"], registry=registry)

    def publish(self, served: Served) -> None:
        """Sets what is known from the start, the zeros too, so that the first refusal of a kind shows as a rise."""
        publish_model(served.statement["predicate"], served.digest, self._registry)
        publish_host(served.version, served.robustness["self_check"], self._registry)
        for kind in KINDS:
            self._refusals.labels(kind)
        for name in served.classes:
            self._predictions.labels(name)

    def observe(self, rows: int, seconds: float) -> None:
        """Counts one call of the model; may be called from any thread."""
        self._rows.observe(rows)
        self._model.observe(seconds)

    def answered(self, exchange: Exchange) -> None:
        """Counts a request that is over."""
        status = "none" if exchange.status is None else str(exchange.status)
        self._requests.labels(exchange.route, exchange.method, status).observe(exchange.seconds)
        if exchange.problem is not None:
            self._refusals.labels(exchange.problem).inc()
        for name, rows in exchange.predicted.items():
            self._predictions.labels(name).inc(rows)

    def text(self, queued: int) -> bytes:
        """Everything in Prometheus' text format; `queued` rows wait now."""
        self._queue.set(queued)
        return generate_latest(self._registry)


def publish_model(predicate: Mapping[str, Any], digest: str, registry: CollectorRegistry) -> None:
    """Sets the gauges of one model; once per process.

    Labels follow the claims: version, setting, threat and attack; certified accuracy names its classifier. "The" robust
    accuracy of the model, which has the threat of its headline, has a gauge of its own.
    """
    version = predicate["model"]["version"]
    info = _gauge("hallmark_model_info", "The model that answers.", ["version", "digest"], registry)
    info.labels(version, digest).set(1)
    clean = _gauge("hallmark_clean_accuracy", "Accuracy without an attack.", ["version", "setting"], registry)
    robust = _gauge(
        "hallmark_robust_accuracy",
        "Accuracy under attack, an upper bound; attack=all counts images right under every attack.",
        ["version", "setting", "threat", "attack"],
        registry,
    )
    main = _gauge(
        "hallmark_main_robust_accuracy",
        "Accuracy under every attack of the model's main threat, an upper bound.",
        ["version", "setting", "threat"],
        registry,
    )
    first = main_names(predicate)[0]
    for setting in SETTINGS:
        main.labels(version, setting, first).set(robust_claim(predicate, setting, first)["value"])
    certified = _gauge(
        "hallmark_certified_accuracy",
        "Certified accuracy, a lower bound: of a smoothed classifier at an l2 radius, of the served one in linf.",
        ["version", "classifier", "norm", "radius"],
        registry,
    )
    for claim in predicate["claims"]:
        if claim["metric"] == "clean_accuracy":
            clean.labels(version, claim["setting"]).set(claim["value"])
        else:
            robust.labels(version, claim["setting"], claim["threat"], claim["attack"]).set(claim["value"])
    for bound in predicate["bounds"]:
        if bound["metric"] == "certified_accuracy":
            radius = f"{bound['radius']:g}" if "radius" in bound else f"{bound['eps_255']:g}/255"
            certified.labels(version, bound["classifier"], bound["norm"], radius).set(bound["value"])


def publish_host(version: str, check: Mapping[str, Any], registry: CollectorRegistry) -> None:
    """Sets what runs the model and how its self-check went, as /robustness says it; of 0 rows where images are withheld."""
    labels = {"provider": check["provider"], "threads": check["threads"], "onnxruntime": onnxruntime.__version__}
    _gauge("hallmark_service_info", "What runs the model.", list(labels), registry).labels(**labels).set(1)
    rows = _gauge("hallmark_self_check_rows", "Closest verdicts replayed at the start.", ["version"], registry)
    moved = _gauge("hallmark_self_check_moved", "Those of them that differ on this host.", ["version"], registry)
    rows.labels(version).set(check["rows"])
    moved.labels(version).set(check["moved"])


def _gauge(name: str, documentation: str, labels: list[str], registry: CollectorRegistry) -> Gauge:
    return Gauge(name, documentation, labels, registry=registry)
