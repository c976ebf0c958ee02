"""The family of common corruptions: fifteen at five severities, each a column of the outcome table.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019
(arXiv 1903.12261). The names are those of CIFAR-10-C. A mean is over all of them or it is none: what a model answers
badly cannot be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bundle.corruptions import SEVERITIES
from bundle.outcomes import Outcomes
from bundle.shares import share

#: Stands for the mean of all of them.
ALL_CORRUPTIONS = "all"


def corruption_column(name: str, severity: int) -> str:
    """The column of the served answers to corrupted images."""
    return f"served/corruption/{name}-{severity}/prediction"


def corruption_columns(names: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Every (name, severity, column) of these corruptions."""
    for name in names:
        for severity in SEVERITIES:
            yield name, severity, corruption_column(name, severity)


def corruption_accuracy(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy of the served model by corruption and severity, and last the mean of these shares (`corruption` all).

    The mean has no interval: its shares are of the same images. Empty where `settings["corruptions"]` is None.
    """
    if settings["corruptions"] is None:
        return []
    shares: list[dict[str, Any]] = [
        {"corruption": name, "severity": severity, **share(outcomes[column] == outcomes["label"])}
        for name, severity, column in corruption_columns(settings["corruptions"]["names"])
    ]
    mean = sum(item["correct"] for item in shares) / (len(shares) * len(outcomes))
    return [*shares, {"corruption": ALL_CORRUPTIONS, "value": mean, "sampleSize": len(outcomes)}]
