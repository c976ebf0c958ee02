"""Every number of an attestation as a CycloneDX performance metric: what, how much, of which slice, how sure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from bundle.pages.wording import (
    attack_title,
    ball_title,
    corruption_title,
    number,
    percent,
)

#: Decimals of a value; what the attestation has beyond is no information.
DECIMALS = 6


def performance_metrics(predicate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """`type`, `value` and `slice` as text, and `confidenceInterval` where there is one; accuracies are in [0, 1].

    In the order of the attestation: claims, bounds, worst classes, classes, calibration, corruptions, distances. The
    slice says the setting or the classifier, the ball, the attack, the count and what kind of bound the value is.
    """
    ball = partial(ball_title, predicate)
    for claim in predicate["claims"]:
        yield _metric(claim["metric"], claim, claim["setting"], *_attacked(claim, ball), *_kind(claim))
    for bound in predicate["bounds"]:
        yield _metric(bound["metric"], bound, *_proved(bound), *_kind(bound))
    for item in predicate["worstClass"]:
        yield _metric("worst_class_robust_accuracy", item, *_of_class(item, ball), "the lowest of all classes")
    for item in predicate["perClass"]:
        yield _metric("class_robust_accuracy", item, *_of_class(item, ball))
    for item in predicate["calibration"]:
        where = ball(item["threat"]) if "threat" in item else "clean"
        yield _metric("expected_calibration_error", item, item["setting"], where, f"{item['bins']} bins")
    for item in predicate["corruptionAccuracy"]:
        every = item["corruption"] == "all"
        name = "mean of all corruptions and severities" if every else corruption_title(item["corruption"])
        severity = [] if every else [f"severity {item['severity']} of 5"]
        yield _metric("corruption_accuracy", item, "served", name, *severity)
    for item in predicate["minimumDistances"]:
        if (median := item["quantiles"]["50"]) is not None:
            attack = f"found by {attack_title(item['name'])} for {item['found']} images"
            value = {"value": median, "sampleSize": item["sampleSize"]}
            yield _metric("median_minimum_distance", value, "reference", item["norm"], attack, "upper bound")


def _attacked(claim: Mapping[str, Any], ball: Any) -> list[str]:
    return [ball(claim["threat"]), attack_title(claim["attack"])] if "threat" in claim else ["clean"]


def _proved(bound: Mapping[str, Any]) -> list[str]:
    """Which classifier a bound is about, where, and how it was proved."""
    where = [bound["norm"]]
    if "eps_255" in bound:
        where = [f"{bound['norm']} {number(bound['eps_255'])}/255"]
    elif "radius" in bound:
        where = [f"{bound['norm']} {number(bound['radius'])}"]
    how = [bound["technique"]] if "technique" in bound else []
    chance = [f"each radius too large with chance at most {number(bound['alpha'])}"] if "alpha" in bound else []
    return [f"classifier {bound['classifier']}", *where, *how, *chance]


def _of_class(item: Mapping[str, Any], ball: Any) -> list[str]:
    return [item["setting"], ball(item["threat"]), f"class {item['class']}"]


def _kind(item: Mapping[str, Any]) -> list[str]:
    return [] if item["bound"] == "exact" else [f"{item['bound']} bound"]


def _metric(kind: str, item: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    counts = (
        f"{item['correct']} of {item['sampleSize']} images" if "correct" in item else f"{item['sampleSize']} images"
    )
    found: dict[str, Any] = {"type": kind, "value": _number(item["value"])}
    if "interval" in item:
        parts = (*parts, f"interval {percent(item['confidence'])}")
        lower, upper = map(_number, item["interval"])
        found["confidenceInterval"] = {"lowerBound": lower, "upperBound": upper}
    return {**found, "slice": ", ".join([*parts, counts])}


def _number(value: float) -> str:
    return str(round(float(value), DECIMALS))
