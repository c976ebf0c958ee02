"""A release policy: what must hold of a model before it is released. docs/policy.yaml has every field.

Policies name every number of an attestation: a metric and the keys that tell it from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError
from bundle.table.plan import ALL_ATTACKS


@dataclass(frozen=True)
class Rule:
    """One rule with what it asks for and what was found."""

    name: str
    required: str
    measured: str
    passed: bool

    def sentence(self) -> str:
        return f"{self.name}: {self.measured}, must be {self.required}"


@dataclass(frozen=True)
class Threshold:
    """`minimum` ≤ number ≤ `maximum` (either may be None) for `end`, the value or an end of its interval."""

    metric: str
    keys: Mapping[str, Any]
    minimum: float | None
    maximum: float | None
    end: str

    @property
    def title(self) -> str:
        """The number as a policy names it: `robust_accuracy served linf-8 all`."""
        return " ".join(
            [self.metric, *(f"{value:g}" if isinstance(value, float) else str(value) for value in self.keys.values())]
        )


@dataclass(frozen=True)
class NotWorse:
    """Non-inferiority: the 95 % interval of the difference to the baseline lies above −`margin` (a fraction, 0.02 is 2 points).

    `setting`, `threat` (None: the baseline's main one) and `attack` say of which robust accuracy; a `metric` of
    clean_accuracy has neither threat nor attack. `first` is what the rule comes to where there was no release before.
    """

    margin: float
    metric: str = "robust_accuracy"
    setting: str = "served"
    threat: str | None = None
    attack: str = ALL_ATTACKS
    first: bool = False


#: At most such a fraction of images may leak, by the names in bundle.leakage.LEAKS.
Leakage = Mapping[str, float]


@dataclass(frozen=True)
class Policy:
    """A validated policy; None and empty mean that it does not ask. `signers` are key ids, files of public keys, or folders."""

    source: str
    sha256: str
    metrics: Sequence[Threshold] = ()
    tier: str | None = None
    flags: int | None = None
    reliable: bool | None = None
    not_worse: Sequence[NotWorse] = ()
    key_ids: Sequence[str] = ()
    key_files: Sequence[Path] = ()
    test_reads: int | None = None
    selection: str | None = None
    sample: int | None = None
    leakage: Leakage = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Metric:
    """Where a metric lies in the predicate, which keys name one number of it, and whether that is a fraction from 0 to 1.

    `optional` keys name another number where they are given, and none where they are not; `further` keys only narrow.
    """

    place: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    value: str = "value"
    fraction: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.required, *self.optional, *self.further)


METRICS = {
    "clean_accuracy": Metric("claims", ("setting",)),
    "robust_accuracy": Metric("claims", ("setting", "threat", "attack")),
    "certified_accuracy": Metric("bounds", ("classifier",), ("radius", "eps_255"), ("technique",)),
    "average_certified_radius": Metric("bounds", ("classifier",), fraction=False),
    "class_accuracy": Metric("perClass", ("setting", "class"), ("threat",)),
    "worst_class_accuracy": Metric("worstClass", ("setting",), ("threat",)),
    "calibration_error": Metric("calibration", ("setting",), ("threat",)),
    "corruption_accuracy": Metric("corruptionAccuracy", ("corruption",), ("severity",)),
    "minimum_distance": Metric("minimumDistances", ("name", "quantile"), fraction=False),
    "lost_on_grid": Metric("agreement", (), ("threat", "attack"), value="onlyReferenceBroken", fraction=False),
}
#: All keys that a policy may give.
KEYS = tuple(dict.fromkeys(key for metric in METRICS.values() for key in metric.keys))


class MetricError(HallmarkError):
    """The attestation has no number of this name, or more than one."""


def find_metric(predicate: Mapping[str, Any], name: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one entry of the predicate that these keys mean: a dict with `value`, and `interval` where there is one.

    Raises MetricError where there is none, more than one, or one without a value.
    """
    metric = METRICS[name]
    found = [item for item in _entries(predicate, name) if _is_meant(item, metric, keys)]
    if not found:
        raise MetricError("the attestation has no such number")
    if len(found) > 1:
        raise MetricError(
            f"{len(found)} numbers of the attestation are called so: give {' or '.join(metric.further)} too"
        )
    if found[0]["value"] is None:
        raise MetricError("was not found for as many images as this quantile needs")
    return found[0]


def _entries(predicate: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    place, value = METRICS[name].place, METRICS[name].value
    for item in predicate.get(place, []):
        if place in ("claims", "bounds") and item["metric"] != name:
            continue
        if place == "minimumDistances":
            for quantile, distance in item["quantiles"].items():
                yield {**item, "quantile": int(quantile), "value": distance}
        else:
            yield {**item, "value": item[value]}


def _is_meant(item: Mapping[str, Any], metric: Metric, keys: Mapping[str, Any]) -> bool:
    named = all(item.get(key) == value for key, value in keys.items())
    return named and not any(key in item for key in metric.optional if key not in keys)
