"""The few numbers by which runs are compared, under names that every run has: DVC's metrics, and a tracking server's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.numbers.claims import find_claim
from bundle.pages.headline import clean_claim, headline, headline_threat, robust_claim
from bundle.table.outcomes import SETTINGS


def metrics(statement: Mapping[str, Any]) -> dict[str, float]:
    """The numbers by which runs are compared, at most eight; what was not measured is left out.

    `robust` is under every attack of the main threat; `proved_median_255` the l-infinity radius, in 255ths, that half of
    the images provably withstand; `certified_l2` the smoothed classifier's average radius.
    """
    predicate = statement["predicate"]
    threat = headline_threat(predicate)["name"]
    found: dict[str, float | None] = {
        "clean": clean_claim(predicate, "served")["value"],
        "robust": robust_claim(predicate, "served", threat)["value"],
        "clean_reference": clean_claim(predicate, "reference")["value"],
        "robust_reference": robust_claim(predicate, "reference", threat)["value"],
        "validation_pgd_10": predicate["selection"].get("pgd_10"),
        "proved_median_255": next((item["proved"]["50"] for item in predicate["brackets"]), None),
        "certified_l2": _certified(predicate),
        "flags": len(headline(statement)["flags"]),
    }
    return {name: value for name, value in found.items() if value is not None}


def metrics_in_full(statement: Mapping[str, Any]) -> dict[str, float]:
    """The same, each accuracy with the ends of its 95 % interval: `robust`, `robust_lower`, `robust_upper`."""
    predicate = statement["predicate"]
    threat, found = headline_threat(predicate)["name"], metrics(statement)
    for setting in SETTINGS:
        end = "" if setting == "served" else f"_{setting}"
        found |= share_metrics(f"clean{end}", clean_claim(predicate, setting))
        found |= share_metrics(f"robust{end}", robust_claim(predicate, setting, threat))
    return found


def share_metrics(name: str, claim: Mapping[str, Any]) -> dict[str, float]:
    """A claim's share and the ends of its interval, each in [0, 1]."""
    lower, upper = claim["interval"]
    return {name: claim["value"], f"{name}_lower": lower, f"{name}_upper": upper}


def _certified(predicate: Mapping[str, Any]) -> float | None:
    names = [item["name"] for item in predicate["smoothing"]]
    found = find_claim(predicate, "average_certified_radius", classifier=names[0]) if names else None
    return found["value"] if found else None
