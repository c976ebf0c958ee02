"""Which numbers a reader meets first, and what must be said before them. For the report, the card and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.claims import ALL_ATTACKS, find_claim
from bundle.threats import RADIUS_FIELD
from bundle.wording import attack_title, comparator, number, threat_name_title, threat_title

#: The attacks that decide; a method's own training attack tends to flatter it.
JUDGES = ("autoattack", "margin")


def headline_threat(predicate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The threat of the headline: the one that the model was trained for where it is listed, else the first."""
    trained = predicate["parameters"].get("threat", {})
    norm = trained.get("norm", "linf")
    field = RADIUS_FIELD.get(norm)
    same = (item for item in predicate["threats"] if item["norm"] == norm and item[field] == trained.get(field))
    return next(same, predicate["threats"][0])


def attack_names(predicate: Mapping[str, Any], threat: str) -> list[str]:
    """The attacks that were run for a threat (`linf-8`), in the order of the attestation."""
    return [attack["name"] for attack in predicate["attacks"] if attack["threat"] == threat]


def clean_claim(predicate: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """The claim on images that nobody changed."""
    claim = find_claim(predicate, "clean_accuracy", setting=setting)
    assert claim is not None  # claims() makes one for each setting
    return claim


def robust_claim(predicate: Mapping[str, Any], setting: str, threat: str, attack: str = ALL_ATTACKS) -> dict[str, Any]:
    """The claim under one attack, or under all of them."""
    claim = find_claim(predicate, "robust_accuracy", setting=setting, threat=threat, attack=attack)
    assert claim is not None  # claims() makes one for each attack of the predicate
    return claim


def headline_bound(predicate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first smoothed classifier's certified accuracy at the middle of its radii; None where there is none."""
    for smoothing in predicate["smoothing"]:
        if radii := sorted(smoothing["radii"]):
            middle = radii[len(radii) // 2]
            return find_claim(predicate, "certified_accuracy", classifier=smoothing["name"], radius=middle)
    return None


def warnings(predicate: Mapping[str, Any]) -> list[str]:
    """What a reader must know before a number is believed; empty where nothing is amiss."""
    return [*_failed_checks(predicate), *_attack_warnings(predicate), *_parity_warnings(predicate["parity"])]


def _failed_checks(predicate: Mapping[str, Any]) -> list[str]:
    if not predicate["sanity"]:
        return ["No sanity check was run, so nothing shows that the attacks worked."]
    return [
        f"Sanity check {item['check']} failed: {item['meaning']}: measured {number(item['statistic'])}, "
        f"must be {comparator(item['comparator'])} {number(item['threshold'])}."
        for item in predicate["sanity"]
        if not item["passed"]
    ]


def _attack_warnings(predicate: Mapping[str, Any]) -> list[str]:
    found = [
        f"{attack_title(attack['name'])} at {threat_name_title(predicate, attack['threat'])} raised a flag: {flag}"
        for attack in predicate["attacks"]
        for flag in attack["flags"]
    ]
    for threat in predicate["threats"]:
        if not set(JUDGES) & set(attack_names(predicate, threat["name"])):
            found.append(f"Neither AutoAttack nor the margin attack was run at {threat_title(threat)}.")
    return found


def _parity_warnings(parity: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    if parity["disagreements"]:
        found.append(
            f"The exported file and the trained network answer differently on {parity['disagreements']} "
            f"of {parity['images']} images."
        )
    if parity["largestLogitDifference"] > parity["tolerance"]:
        found.append(
            f"Logits of the exported file differ by up to {number(parity['largestLogitDifference'])} from the trained "
            f"network's; {number(parity['tolerance'])} is tolerated."
        )
    return found
