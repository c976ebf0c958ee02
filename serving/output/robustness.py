"""What /robustness answers: the attestation's numbers, sorted for reading, and what each kind of number means.

What was measured for the images of one class, as an answer can carry it: `?explain=robustness`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import QueryParams

from bundle.attestation import CLAIMED, PARTS, REPEATED
from bundle.bundle import Bundle
from bundle.numbers.claims import ALL_ATTACKS
from bundle.numbers.intervals import CONFIDENCE, clopper_pearson
from bundle.pages.headline import main_names
from bundle.table.threats import RADIUS_FIELD
from serving.exchange import Problem
from serving.model.trust import Trust

MEANING = {
    "reference": "Measured on the training framework's float32 network with adversarial images in floating point; "
    "comparable with papers.",
    "served": "Measured on model.onnx, the file that answers here, with adversarial images of 8 bits, which a client "
    "can send.",
    "upper": "An upper bound: the share of images that were right under every attack that was run. A stronger attack "
    "may break more; it cannot break fewer.",
    "lower": "A lower bound that is proved, except with probability alpha an image, for the smoothed classifier that "
    "is named. /predict answers with another classifier.",
    "exact": "No attack: the share of the drawn images that were right.",
    "reliable": "False where a sanity check failed: then the numbers cannot be believed.",
    "interval": "95 % Clopper-Pearson. It covers the drawing of the images, for this model and these attacks; it does "
    "not cover attacks that were not run.",
}


def robustness(bundle: Bundle, host: dict[str, Any], trust: Trust) -> dict[str, Any]:
    """The measured robustness of a bundle's model; `host` is what this host's self-check found."""
    predicate = bundle.predicate
    return {
        "model_version": bundle.version,
        "model_digest": bundle.digest,
        **{field: {name: predicate[field][name] for name in names} for field, names in PARTS.items()},
        **{
            field: [claim for claim in predicate["claims"] if claim["metric"] == metric]
            for field, metric in CLAIMED.items()
        },
        **{field: predicate[name] for field, name in REPEATED.items()},
        "main_threats": main_names(predicate),
        "self_check": host,
        "trust": trust.describe(),
        "meaning": MEANING,
    }


EXPLAIN, ROBUSTNESS = "explain", "robustness"
#: With fewer images than this, the sentence points at the intervals.
FEW = 30


def wants_robustness(query: QueryParams) -> bool:
    """Whether a query asks for the explanation; raises Problem where it asks for anything else."""
    for name, value in query.multi_items():
        if name != EXPLAIN:
            raise Problem("bad-query", f"query: {name} is no parameter of this route; it has {EXPLAIN}={ROBUSTNESS}.")
        if value != ROBUSTNESS:
            raise Problem("bad-query", f"query: {EXPLAIN} is {value!r}; it can be {ROBUSTNESS}.")
    if len(query.multi_items()) > 1:
        raise Problem("bad-query", f"query: {EXPLAIN} is given more than once; give it once.")
    return bool(query)


def explanations(predicate: Mapping[str, Any], classes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """By class name: what the attestation says about the test images whose label is that class, in the setting served.

    Under attack at the main threats alone.

    `predicate` is the attestation's, `classes` some of its class names. A class without a test image has no clean accuracy,
    no threats, and a sentence that says so.
    """
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in classes}
    main = main_names(predicate)
    for item in predicate["perClass"]:
        if item["setting"] == "served" and item["class"] in found and item["threat"] in main:
            found[item["class"]].append(item)
    worst = {(item["threat"], item["class"]) for item in predicate["worstClass"] if item["setting"] == "served"}
    return {name: _explanation(predicate, name, items, worst) for name, items in found.items()}


def _explanation(
    predicate: Mapping[str, Any], name: str, items: list[Mapping[str, Any]], worst: set[tuple[str, str]]
) -> dict[str, Any]:
    size = items[0]["sampleSize"] if items else 0
    return {
        "class": name,
        "label": predicate["data"]["classes"].index(name),
        "setting": "served",
        "sampleSize": size,
        "clean": _clean(items[0]["cleanCorrect"], size) if items else None,
        "threats": [{**_threat(predicate, item), "worst": (item["threat"], name) in worst} for item in items],
        "reliable": predicate["reliable"],
        "sentence": _sentence(name, size),
    }


def _clean(correct: int, size: int) -> dict[str, Any]:
    return {
        "bound": "exact",
        "value": correct / size,
        "correct": correct,
        "sampleSize": size,
        "interval": list(clopper_pearson(correct, size)),
        "confidence": CONFIDENCE,
    }


def _threat(predicate: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy of a class under all attacks of one threat."""
    ball = next(threat for threat in predicate["threats"] if threat["name"] == item["threat"])
    radius = RADIUS_FIELD[ball["norm"]]
    return {
        "threat": item["threat"],
        "norm": ball["norm"],
        radius: ball[radius],
        "attack": ALL_ATTACKS,
        "bound": "upper",
        **{field: item[field] for field in ("value", "correct", "sampleSize", "interval", "confidence")},
    }


def _sentence(name: str, size: int) -> str:
    if size == 0:
        return f"No image whose label is {name} was measured, so nothing is known of this class."
    average = (
        f"Averages over the {size} measured test images whose label is {name}, first without an attack and then under "
        "every attack that was run; they say nothing about this one image, nor how often the answer itself is right."
    )
    return average if size >= FEW else f"{average} So few images say little: read the intervals."
