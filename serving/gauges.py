"""What a service knows from its start, as Prometheus gauges: the measured accuracies, the host, its self-check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
from prometheus_client import CollectorRegistry, Gauge

from bundle.headline import main_names, robust_claim
from bundle.outcomes import SETTINGS


def publish_model(predicate: Mapping[str, Any], digest: str, registry: CollectorRegistry) -> None:
    """Sets the gauges of one model; once a process.

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
