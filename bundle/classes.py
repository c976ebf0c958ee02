"""Robust accuracy class by class: the average over a test split can hide a class that an attacker always breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.intervals import CONFIDENCE
from bundle.outcomes import SETTINGS, Outcomes
from bundle.plan import attack_names
from bundle.shares import share


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
    """By setting and threat: the class with the lowest share right under every attack; of equal ones the first.

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
            found.append({"class": name, "cleanCorrect": int(clean[rows].sum()), **share(robust[rows], confidence)})
    return found
