"""claims(): from the outcome table and the settings to every published number. Pure, so anyone can redo it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bundle.numbers.breakdowns import (
    agreement,
    calibration,
    corruption_accuracy,
    minimum_distances,
    per_class,
    worst_class,
)
from bundle.numbers.intervals import accuracy
from bundle.numbers.proofs import brackets, certified_radii, proof_bounds
from bundle.table.outcomes import SETTINGS, Outcomes
from bundle.table.plan import ALL_ATTACKS as ALL_ATTACKS  # the name that readers of claims look for here
from bundle.table.plan import UNION_NORM, attack_names

#: The lists that claims() returns, in the order in which a verifier compares them.
KINDS = (
    "claims",
    "bounds",
    "perClass",
    "worstClass",
    "calibration",
    "agreement",
    "corruptionAccuracy",
    "minimumDistances",
    "brackets",
)


def claims(outcomes: Outcomes, settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Every number and interval of a bundle.

    Parameters
    ----------
    outcomes : one row per image (see bundle.table.outcomes).
    settings : the predicate's `threats` (name, norm, eps_255 or eps), `attacks` (threat, name), `unions` (name,
        threats), `smoothing` (name, sigma, estimation, alpha, radii), `corruptions` (None, or names), `distances` (name,
        norm), `proofs` (norm, technique, eps_255) and `data.classes` (names).

    Returns
    -------
    `claims`: clean and robust accuracy by setting, threat and attack; `all` is the fraction of images that are right under
    every attack that was run for the threat, and an upper bound of the true robust accuracy. A union's claim has the
    union's name for its threat, the norm `union` and no radius: the fraction right under every attack of its threats.
    `bounds`: certified accuracy of each smoothed classifier at each l2 radius, a lower bound for that classifier alone;
    and of the served classifier at each radius of a proof. `brackets`: see bundle.numbers.proofs.
    `perClass`, `worstClass`: see bundle.numbers.breakdowns; `calibration`, `agreement`, `corruptionAccuracy` and
    `minimumDistances`: see the modules bundle.numbers.breakdowns, agreement, corrupted and distances.
    Each accuracy has the count, the sample size and the Clopper-Pearson interval (95 %, for the worst class wider), which
    covers the drawing of images for this model and these attacks, not the attacks' weakness.

    Raises OutcomeError where the table lacks a column, and where no attack was run for a threat: accuracy under no
    attack is not robust accuracy.
    """
    return {
        "claims": [claim for setting in SETTINGS for claim in _accuracies(outcomes, settings, setting)],
        "bounds": [
            *(bound for item in settings["smoothing"] for bound in smoothing_bounds(outcomes, item)),
            *(bound for item in settings["proofs"] for bound in proof_bounds(outcomes, item)),
        ],
        "perClass": per_class(outcomes, settings),
        "worstClass": worst_class(outcomes, settings),
        "calibration": calibration(outcomes, settings),
        "agreement": agreement(outcomes, settings),
        "corruptionAccuracy": corruption_accuracy(outcomes, settings),
        "minimumDistances": minimum_distances(outcomes, settings),
        "brackets": brackets(outcomes, settings),
    }


def _accuracies(outcomes: Outcomes, settings: Mapping[str, Any], setting: str) -> Iterator[dict[str, Any]]:
    """Clean, then every threat's attacks and all of them, then the unions, in one setting."""
    clean = outcomes.clean_right(setting)
    yield {"metric": "clean_accuracy", "setting": setting, "bound": "exact", **accuracy(clean)}
    right = {}
    for threat in settings["threats"]:
        names = attack_names(settings, threat["name"])
        ball = {field: threat[field] for field in ("norm", "eps_255", "eps") if field in threat}
        for label, attacks in [*((name, [name]) for name in names), (ALL_ATTACKS, names)]:
            right[threat["name"]] = outcomes.robust(setting, threat["name"], attacks)
            yield _robust(setting, threat["name"], ball, label, right[threat["name"]])
    for union in settings["unions"]:
        everywhere = np.logical_and.reduce([right[name] for name in union["threats"]])
        yield _robust(setting, union["name"], {"norm": UNION_NORM}, ALL_ATTACKS, everywhere)


def _robust(setting: str, threat: str, ball: Mapping[str, Any], attack: str, right: Any) -> dict[str, Any]:
    keys = {"metric": "robust_accuracy", "setting": setting, "threat": threat, **ball, "attack": attack}
    return {**keys, "bound": "upper", **accuracy(right)}


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
            {
                "metric": "certified_accuracy",
                "radius": radius,
                "bound": "lower",
                **classifier,
                **accuracy(right & (radii >= radius)),
            }
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
