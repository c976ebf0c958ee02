"""Every number of an attestation under one name each, for policies: a metric and the keys that tell it from others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bundle.errors import HallmarkError


@dataclass(frozen=True)
class Metric:
    """Where a metric lies in the predicate, which keys name one number of it, and whether that is a share from 0 to 1.

    `optional` keys name another number where they are given, and none where they are not; `further` keys only narrow.
    """

    place: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    value: str = "value"
    share: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.required, *self.optional, *self.further)


METRICS = {
    "clean_accuracy": Metric("claims", ("setting",)),
    "robust_accuracy": Metric("claims", ("setting", "threat", "attack")),
    "certified_accuracy": Metric("bounds", ("classifier",), ("radius", "eps_255"), ("technique",)),
    "average_certified_radius": Metric("bounds", ("classifier",), share=False),
    "class_accuracy": Metric("perClass", ("setting", "class"), ("threat",)),
    "worst_class_accuracy": Metric("worstClass", ("setting",), ("threat",)),
    "calibration_error": Metric("calibration", ("setting",), ("threat",)),
    "corruption_accuracy": Metric("corruptionAccuracy", ("corruption",), ("severity",)),
    "minimum_distance": Metric("minimumDistances", ("name", "quantile"), share=False),
    "lost_on_grid": Metric("agreement", (), ("threat", "attack"), value="onlyReferenceBroken", share=False),
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
