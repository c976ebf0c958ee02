"""Numbers beside the accuracies: by class, by setting, by corruption, calibration, and distances.

By class, since the average over a test split can hide one that an attacker always breaks. By setting: what the 8-bit grid
and the exported file changed, image by image. Distances: what minimum-norm attacks found, as quantiles over the images.

Calibration: whether a model that says 90 % is right in 90 of 100 cases, clean and under attack. The expected calibration
error of Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015, in the
form of Guo et al., ICML 2017 (arXiv 1706.04599), eq. 3: bins of equal width.

Corruptions: fifteen at five severities, each a column of the outcome table, with the names of CIFAR-10-C. Hendrycks and
Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019 (arXiv
1903.12261). A mean is over all of them or it is none: what a model answers badly cannot be left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.numbers.intervals import CONFIDENCE, accuracy
from bundle.table.columns import corruption_columns
from bundle.table.outcomes import SETTINGS, Outcomes, distance_column
from bundle.table.plan import attack_names


def per_class(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By setting, threat and class: how many images there are, are right when clean, and under every attack.

    A class without images is left out. Intervals are 95 % for each class alone.
    """
    return [
        {"setting": setting, "threat": threat["name"], **item}
        for setting in SETTINGS
        for threat in settings["threats"]
        for item in _classes(outcomes, settings, setting, threat["name"], CONFIDENCE)
    ]


def worst_class(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By setting and threat: the class with the lowest accuracy under all attacks; of equal ones the first.

    It was picked after looking at all K classes that have images, so its interval is at confidence 1 − 0.05/K: with a
    chance of 95 % all K such intervals cover, whichever class is the worst (Bonferroni).
    """
    classes = len(np.unique(outcomes["label"]))
    confidence = 1 - (1 - CONFIDENCE) / classes
    worst: list[dict[str, Any]] = []
    for setting in SETTINGS:
        for threat in settings["threats"]:
            found = _classes(outcomes, settings, setting, threat["name"], confidence)
            lowest = min(found, key=lambda item: item["value"])  # of equal ones min() takes the first
            del lowest["cleanCorrect"]
            worst.append({"setting": setting, "threat": threat["name"], **lowest})
    return worst


def _classes(
    outcomes: Outcomes, settings: Mapping[str, Any], setting: str, threat: str, confidence: float
) -> list[dict[str, Any]]:
    clean = outcomes.clean_right(setting)
    robust = outcomes.robust(setting, threat, attack_names(settings, threat))
    found: list[dict[str, Any]] = []
    for number, name in enumerate(settings["data"]["classes"]):
        rows = outcomes["label"] == number
        if rows.any():
            found.append({"class": name, "cleanCorrect": int(clean[rows].sum()), **accuracy(robust[rows], confidence)})
    return found


BINS = 15


def calibration(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By setting, clean and for each threat: `value` (the error, in [0, 1]), mean confidence and accuracy.

    Under attack the answer to an image is the one to the attack that reached the smallest margin on it in that setting;
    of equal ones the first.
    """
    found: list[dict[str, Any]] = []
    for setting in SETTINGS:
        clean = outcomes[f"{setting}/clean/confidence"]
        found.append({"setting": setting, **_summary(clean, outcomes.clean_right(setting))})
        for threat in settings["threats"]:
            prefixes = [f"{setting}/{threat['name']}/{name}" for name in attack_names(settings, threat["name"])]
            found.append({"setting": setting, "threat": threat["name"], **_summary(*worst_answers(outcomes, prefixes))})
    return found


def worst_answers(outcomes: Outcomes, prefixes: list[str]) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Confidence (N,) and rightness (N,) of the answer to each image's smallest margin among these attacks' columns."""
    margin, confidence, prediction = (
        np.stack([outcomes[f"{prefix}/{part}"] for prefix in prefixes])
        for part in ("margin", "confidence", "prediction")
    )
    # A margin that is no number is the smallest: no right answer has one.
    chosen, rows = np.argmin(np.where(np.isnan(margin), -np.inf, margin), axis=0), np.arange(len(outcomes))
    return confidence[chosen, rows], prediction[chosen, rows] == outcomes["label"]


def calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """The expected calibration error over bins of equal width, each open below and closed above; the lowest has 0 too.

    `confidence` (N,) in [0, 1], `right` (N,). Returns the mean over images of |accuracy − confidence| of their bins.
    """
    exact = confidence.astype(np.float64)
    place = np.clip(np.ceil(exact * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right.astype(np.float64) - exact, minlength=bins)
    return float(np.abs(gaps).sum() / len(exact))


def _summary(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "bins": BINS,
        "value": calibration_error(confidence, right),
        "meanConfidence": float(confidence.astype(np.float64).mean()),
        "accuracy": int(right.sum()) / len(right),
        "sampleSize": len(right),
    }


def agreement(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Counts of images by verdict in the reference and in the served setting: clean, then for every attack.

    `bothRight`, `onlyReferenceBroken` (what the grid lost), `onlyServedBroken`, `bothBroken`; their sum is the sample
    size. For clean images broken means wrong.
    """
    found = [_matrix(~outcomes.clean_right("reference"), ~outcomes.clean_right("served"))]
    for attack in settings["attacks"]:
        name = f"{attack['threat']}/{attack['name']}"
        reference, served = (outcomes[f"{setting}/{name}/broken"].astype(bool) for setting in ("reference", "served"))
        found.append({"threat": attack["threat"], "attack": attack["name"], **_matrix(reference, served)})
    return found


def _matrix(reference: NDArray[np.bool_], served: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "bothRight": int((~reference & ~served).sum()),
        "onlyReferenceBroken": int((reference & ~served).sum()),
        "onlyServedBroken": int((~reference & served).sum()),
        "bothBroken": int((reference & served).sum()),
    }


PERCENTS = (10, 25, 50, 75, 90)


def minimum_distances(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By attack of `settings["distances"]`: on how many images it found anything, and quantiles of the distance.

    Each distance is an upper bound of the true one. A quantile is that of all images, found or not; None where it lies
    among those on which nothing was found.
    """
    found: list[dict[str, Any]] = []
    for item in settings["distances"]:
        distances = outcomes[distance_column(item["name"])]
        found.append(
            {
                "name": item["name"],
                "norm": item["norm"],
                "found": int(np.isfinite(distances).sum()),
                "sampleSize": len(distances),
                "quantiles": {str(percent): quantile(distances, percent) for percent in PERCENTS},
            }
        )
    return found


def quantile(distances: NDArray[np.floating[Any]], percent: int) -> float | None:
    """The smallest of the distances that `percent` % of them do not exceed (no interpolation); None where it is +inf."""
    place = -(-percent * len(distances) // 100) - 1
    value = float(np.sort(distances)[place])
    return value if math.isfinite(value) else None


#: Stands for the mean of all of them.
ALL_CORRUPTIONS = "all"


def corruption_accuracy(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy of the served model by corruption and severity, and last the mean of these accuracies (`corruption` all).

    The mean has no interval: its accuracies are of the same images. Empty where `settings["corruptions"]` is None.
    """
    if settings["corruptions"] is None:
        return []
    accuracies: list[dict[str, Any]] = [
        {"corruption": name, "severity": severity, **accuracy(outcomes[column] == outcomes["label"])}
        for name, severity, column in corruption_columns(settings["corruptions"]["names"])
    ]
    mean = sum(item["correct"] for item in accuracies) / (len(accuracies) * len(outcomes))
    return [*accuracies, {"corruption": ALL_CORRUPTIONS, "value": mean, "sampleSize": len(outcomes)}]
