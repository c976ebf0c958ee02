"""Calibration: whether a model that says 90 % is right in 90 of 100 cases, clean and under attack.

The expected calibration error of Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
Binning", AAAI 2015, in the form of Guo et al., ICML 2017 (arXiv 1706.04599), eq. 3: bins of equal width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import SETTINGS, Outcomes
from bundle.plan import attack_names

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
