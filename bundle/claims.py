"""claims(): from the outcome table and the settings to every published number. Pure, so anyone can redo it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.intervals import CONFIDENCE, clopper_pearson
from bundle.outcomes import SETTINGS, OutcomeError, Outcomes
from bundle.smoothing import certified_radii

ALL_ATTACKS = "all"


def claims(outcomes: Outcomes, settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every number and interval of a bundle.

    Parameters
    ----------
    outcomes : one row an image (see bundle.outcomes).
    settings : the predicate's `threats` (name, norm, eps_255 or eps), `attacks` (threat, name) and `smoothing` (name, sigma,
        estimation, alpha, radii).

    Returns
    -------
    `claims`: clean and robust accuracy by setting, threat and attack; `all` is the share of images that are right under
    every attack that was run for the threat, and an upper bound of the true robust accuracy.
    `bounds`: certified accuracy of each smoothed classifier at each l2 radius, a lower bound for that classifier alone.
    Each has the share, the count, the sample size and the 95 % Clopper-Pearson interval, which covers the drawing of
    images for this model and these attacks, not the attacks' weakness.

    Raises OutcomeError where the table lacks a column, and where no attack was run for a threat: accuracy under no
    attack is not robust accuracy.
    """
    measured: list[dict[str, Any]] = []
    for setting in SETTINGS:
        measured.append(_claim(outcomes.clean_right(setting), metric="clean_accuracy", setting=setting, bound="exact"))
        for threat in settings["threats"]:
            names = [attack["name"] for attack in settings["attacks"] if attack["threat"] == threat["name"]]
            if not names:
                raise OutcomeError(f"threat {threat['name']}: no attack was run for it, so it has no robust accuracy")
            for label, attacks in [*((name, [name]) for name in names), (ALL_ATTACKS, names)]:
                measured.append(
                    _claim(
                        outcomes.robust(setting, threat["name"], attacks),
                        metric="robust_accuracy",
                        setting=setting,
                        threat=threat["name"],
                        norm=threat["norm"],
                        **{field: threat[field] for field in ("eps_255", "eps") if field in threat},
                        attack=label,
                        bound="upper",
                    )
                )
    return {
        "claims": measured,
        "bounds": [bound for item in settings["smoothing"] for bound in smoothing_bounds(outcomes, item)],
    }


def find_claim(document: Mapping[str, Any], metric: str, **keys: Any) -> dict[str, Any] | None:
    """The claim or bound of a claims() result with this metric and these fields; None where there is none."""
    for claim in [*document["claims"], *document["bounds"]]:
        if claim["metric"] == metric and all(claim.get(key) == value for key, value in keys.items()):
            return claim
    return None


def smoothing_bounds(outcomes: Outcomes, smoothing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Certified accuracy at each radius, and the average certified radius, of one smoothed classifier."""
    radii = certified_radii(
        outcomes[f"{smoothing['name']}/successes"], smoothing["estimation"], smoothing["sigma"], smoothing["alpha"]
    )
    right = (outcomes[f"{smoothing['name']}/selected"] == outcomes["label"]) & (radii > 0)
    classifier = {
        "classifier": smoothing["name"],
        "sigma": smoothing["sigma"],
        "norm": "l2",
        "alpha": smoothing["alpha"],
    }
    average = float(np.mean(np.where(right, radii, 0.0)))
    return [
        *(
            _claim(right & (radii >= radius), metric="certified_accuracy", radius=radius, bound="lower", **classifier)
            for radius in smoothing["radii"]
        ),
        {
            "metric": "average_certified_radius",
            "value": average,
            "sampleSize": len(outcomes),
            "bound": "lower",
            **classifier,
        },
    ]


def _claim(right: NDArray[np.bool_], **keys: Any) -> dict[str, Any]:
    correct, size = int(right.sum()), len(right)
    lower, upper = clopper_pearson(correct, size)
    share = {"value": correct / size, "correct": correct, "sampleSize": size}
    return {**keys, **share, "interval": [lower, upper], "confidence": CONFIDENCE}
