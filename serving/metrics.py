"""Prometheus: how requests, batches and predictions go; gauges.py has what stays as it is.

BentoML's own metrics are switched off: they take the raw path as a label, so a client that asks for ever new paths
fills the service's memory. Here every label has a known set of values.
"""

from __future__ import annotations

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

from serving.exchange import Exchange
from serving.gauges import publish_host, publish_model
from serving.problems import KINDS
from serving.served import Served

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: BentoML asks for numbers in files that are mapped into memory, so that several workers can add theirs up. There is one
#: worker, and on a full disk writing to such a file ends the process by a signal, without a word.
values.ValueClass = values.MutexValue
disable_created_metrics()  # a second series for each, which says when it began

MODEL_SECONDS = (0.0001, 0.00025, 0.0005, *REQUEST_SECONDS)
BATCH_ROWS = tuple(1 << power for power in range(13))


class Watch:
    """What the service counts about itself; one a process, since a registry takes each name once."""

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
