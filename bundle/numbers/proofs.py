"""What is proved, beside what attacks broke: bounds, brackets and contradictions of the served classifier; smoothed radii.

The column `proved/linf/eps_255` holds for each image the largest l∞ radius, in 255ths of the pixel range, within which no
image is misclassified; 0 where nothing is proved or the image itself is misclassified. The radii of a smoothed
classifier, in l2, follow from the counts of its votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bundle.numbers.breakdowns import PERCENTS, quantile
from bundle.numbers.intervals import accuracy, lower_bound
from bundle.table.columns import proof_column
from bundle.table.outcomes import SETTINGS, OutcomeError, Outcomes
from bundle.table.plan import attack_names
from bundle.table.threats import Threat

#: The classifier that these bounds are about, as claims name it; smoothed classifiers have names of their own.
SERVED = "served"


def proof_bounds(outcomes: Outcomes, proof: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Certified accuracy of the served classifier at each radius of `proof["eps_255"]`: the fraction proved at least so far.

    A lower bound of the true robust accuracy of these images. `proof` is an item of the predicate's `proofs` (norm,
    technique, eps_255). Raises OutcomeError where the table has no such column.
    """
    proved = outcomes[proof_column(proof["norm"])]
    return [
        {
            "metric": "certified_accuracy",
            "classifier": SERVED,
            "norm": proof["norm"],
            "eps_255": eps,
            "technique": proof["technique"],
            "bound": "lower",
            **accuracy((proved >= eps) & (proved > 0)),
        }
        for eps in proof["eps_255"]
    ]


def brackets(outcomes: Outcomes, predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each proof: how far images are proved, and from where on they are broken.

    `proved` and `broken` are quantiles over the images, in 255ths (no interpolation). An image is broken from the
    smallest l∞ radius on at which any attack broke it, in either setting; from 0 on where it is wrong without one; null
    stands for images that no attack broke. `undecided` counts, for each attacked l∞ radius, the images proved up to it,
    broken by it, and neither.
    """
    return [_bracket(outcomes, predicate, proof["norm"]) for proof in predicate["proofs"]]


def _bracket(outcomes: Outcomes, predicate: Mapping[str, Any], norm: str) -> dict[str, Any]:
    proved, broken = outcomes[proof_column(norm)], broken_radii(outcomes, predicate, norm)
    radii = sorted(Threat.of(item).size for item in predicate["threats"] if item["norm"] == norm)
    return {
        "norm": norm,
        "sampleSize": len(outcomes),
        "proved": {str(percent): quantile(proved, percent) for percent in PERCENTS},
        "broken": {str(percent): quantile(broken, percent) for percent in PERCENTS},
        "undecided": [_counts(eps, proved, broken) for eps in radii],
    }


def _counts(eps: float, proved: NDArray[np.floating[Any]], broken: NDArray[np.float64]) -> dict[str, Any]:
    safe, fallen = proved >= eps, broken <= eps
    neither = int((~safe & ~fallen).sum())
    return {"eps_255": eps, "proved": int(safe.sum()), "broken": int(fallen.sum()), "neither": neither}


def broken_radii(outcomes: Outcomes, predicate: Mapping[str, Any], norm: str = "linf") -> NDArray[np.float64]:
    """The smallest radius (N,) of a threat in this norm under which an image was wrong, in either setting.

    In 255ths; 0 where it is wrong without an attack, +inf where no attack broke it.
    """
    smallest = np.full(len(outcomes), np.inf)
    for item in predicate["threats"]:
        if item["norm"] == norm:
            for setting in SETTINGS:
                wrong = ~outcomes.robust(setting, item["name"], attack_names(predicate, item["name"]))
                smallest[wrong] = np.minimum(smallest[wrong], Threat.of(item).size)
    for setting in SETTINGS:
        smallest[~outcomes.clean_right(setting)] = 0.0
    return smallest


def contradiction(outcomes: Outcomes, predicate: Mapping[str, Any]) -> NDArray[np.int64]:
    """The `index` of every image that is proved at a radius at which it was broken; an honest table has none.

    Attacks in every norm count: no pixel moves further than the whole image does in l2 or l1. So do images that are
    proved and wrong without an attack. On the 8-bit grid an l∞ attack moves whole levels only.
    """
    wrong = np.zeros(len(outcomes), np.bool_)
    for proof in predicate["proofs"]:
        proved = outcomes[proof_column(proof["norm"])]
        for setting in SETTINGS:
            wrong |= (proved > 0) & ~outcomes.clean_right(setting)
            for item in predicate["threats"]:
                right = outcomes.robust(setting, item["name"], attack_names(predicate, item["name"]))
                wrong |= (proved > 0) & (proved >= _reach(Threat.of(item), setting)) & ~right
    return outcomes["index"][wrong].astype(np.int64)


def _reach(threat: Threat, setting: str) -> float:
    """The furthest that an attack moves a pixel, in 255ths."""
    return threat.levels if threat.norm == "linf" and setting == "served" else threat.eps * 255


def check_proofs(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    """Raises OutcomeError that names the column for radii that are no numbers of 0 to 255, and for contradictions."""
    for proof in predicate["proofs"]:
        proved = outcomes[proof_column(proof["norm"])]
        if not np.all((proved >= 0) & (proved <= 255)):
            raise OutcomeError(f"{proof_column(proof['norm'])} must be 0 to 255, in 255ths of the pixel range")
    rows = contradiction(outcomes, predicate)
    if len(rows):
        raise OutcomeError(
            f"image {rows[0]} is proved at a radius at which an attack broke it"
            + (f", and so are {len(rows) - 1} others" if len(rows) > 1 else "")
        )


def certified_radii(successes: NDArray[np.integer], samples: int, sigma: float, alpha: float) -> NDArray[np.float64]:
    """The l2 radius that each count proves: sigma · Φ⁻¹(p), p the lower bound of the selected class's probability.

    Parameters: `successes` (N,) out of `samples`; alpha is the chance, an image, that the radius is too large.
    Returns radii (N,) in units of the pixel range; 0 where p ≤ 1/2, that is where the smoothed classifier abstains.
    """
    known: dict[int, float] = {}
    for count in {int(count) for count in successes}:
        probability = lower_bound(count, samples, alpha)
        known[count] = sigma * float(ndtri(probability)) if probability > 0.5 else 0.0
    return np.array([known[int(count)] for count in successes], dtype=np.float64)
