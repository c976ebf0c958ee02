"""The measured accuracies as Prometheus gauges, beside BentoML's own metrics of requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge


def publish(predicate: Mapping[str, Any], digest: str, registry: CollectorRegistry = REGISTRY) -> None:
    """Sets the gauges of one model; once a process.

    Labels follow the claims: version, setting, threat and attack; certified accuracy names its classifier.
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


def _gauge(name: str, documentation: str, labels: list[str], registry: CollectorRegistry) -> Gauge:
    # `max` gives one number over all worker processes, dead ones too; any other mode adds a label or adds them up.
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode="max")
