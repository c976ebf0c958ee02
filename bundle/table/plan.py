"""What was evaluated: threats, unions of them, attacks, checks. Every number is keyed by these names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

from bundle.errors import HallmarkError
from bundle.table.outcomes import OutcomeError
from bundle.table.threats import NORMS, RADIUS_FIELD, Threat

#: Norms as sentences name them.
NORM_WORDS = {"linf": "l-infinity", "l2": "l2", "l1": "l1"}
#: From the quickest to the most thorough.
TIERS = ("quick", "standard", "thorough")
#: Stands for all attacks of a threat.
ALL_ATTACKS = "all"
#: The norm of a claim that is about several norms at once.
UNION_NORM = "union"


class TablePlanError(HallmarkError):
    """Two things of an evaluation have one name, or a name stands for nothing or for something else."""


def attack_names(predicate: Mapping[str, Any], threat: str) -> list[str]:
    """The attacks that were run for a threat (`linf-8`); raises OutcomeError where there is none."""
    names = [attack["name"] for attack in predicate["attacks"] if attack["threat"] == threat]
    if not names:
        raise OutcomeError(f"threat {threat}: no attack was run for it, so it has no robust accuracy")
    return names


def curve_only(predicate: Mapping[str, Any]) -> set[str]:
    """Threats that met the margin attack alone, of a norm that has one with more attacks: points of a curve."""
    met = {item["name"]: attack_names(predicate, item["name"]) for item in predicate["threats"]}
    full = {item["norm"] for item in predicate["threats"] if met[item["name"]] != ["margin"]}
    return {item["name"] for item in predicate["threats"] if item["norm"] in full and met[item["name"]] == ["margin"]}


def untested_balls(tested: Set[str]) -> str:
    """The sentence of `notTested` on norms without any attack, and on radii of the others that are not listed."""
    attacked, untested = (
        [NORM_WORDS[norm] for norm in NORMS if (norm in tested) == wanted] for wanted in (True, False)
    )
    others = f"perturbations in {' and '.join(untested)}, and " if untested else ""
    listed = f"{', '.join(attacked[:-1])} and {attacked[-1]}" if attacked[1:] else attacked[0]
    return f"{others}{listed} radii that are not listed"


def reliable(sanity: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no sanity check failed; a warning alone does not make a number unreliable."""
    return all(item["outcome"] != "fail" for item in sanity)


def holds(item: Mapping[str, Any]) -> bool:
    """Whether a sanity check's statistic keeps its threshold, beyond which it fails; it may warn before."""
    statistic, threshold = item["statistic"], item["threshold"]
    return statistic <= threshold if item["comparator"] == "<=" else statistic >= threshold


def check_plan(predicate: Mapping[str, Any]) -> None:
    """What the claims are keyed by must be unambiguous, or a number could stand beside a name that is not its own.

    Raises TablePlanError for names that are there twice, unknown or reserved, threats that are not what their names say, main
    threats that are points of a curve, unions of one norm, checks that pass or fail against their own statistic, and a
    surface of another size; OutcomeError for a threat without an attack.
    """
    for item in predicate["threats"]:
        if Threat.of(item).describe() != item:
            raise TablePlanError(f"threat {item['name']} is not what its norm and {RADIUS_FIELD[item['norm']]} say")
    for kind, names in _names(predicate).items():
        for name, count in Counter(names).items():
            if count > 1:
                raise TablePlanError(f"{kind} {name} is there {count} times")
    _check_attacks(predicate)
    _check_main_threats(predicate)
    for union in predicate["unions"]:
        _check_union(union, predicate)
    _check_sanity(predicate)
    if predicate["surface"] is not None:
        _check_surface(predicate["surface"], predicate)


def _names(predicate: Mapping[str, Any]) -> dict[str, list[str]]:
    named = (
        ("threat", "threats"),
        ("proof", "proofs"),
        ("union", "unions"),
        ("smoothed classifier", "smoothing"),
        ("distance", "distances"),
    )
    return {
        **{kind: [item["name"] for item in predicate[key]] for kind, key in named},
        "attack": [f"{item['threat']}/{item['name']}" for item in predicate["attacks"]],
        "sanity check": [f"{item['check']} {item.get('threat', '')}".strip() for item in predicate["sanity"]],
    }


def _check_attacks(predicate: Mapping[str, Any]) -> None:
    threats = {item["name"] for item in predicate["threats"]}
    for item in predicate["attacks"]:
        if item["threat"] not in threats or item["name"] == ALL_ATTACKS:
            raise TablePlanError(f"attack {item['threat']}/{item['name']}: unknown threat or reserved name")
    for name in threats:
        attack_names(predicate, name)


def _check_main_threats(predicate: Mapping[str, Any]) -> None:
    names, curve = {item["name"] for item in predicate["threats"]}, curve_only(predicate)
    for name in predicate.get("mainThreats", []):
        if name not in names:
            raise TablePlanError(f"mainThreats: there is no threat {name}")
        if name in curve:
            raise TablePlanError(
                f"mainThreats: {name} met the margin attack alone, and others of its norm more attacks"
            )


def _check_union(union: Mapping[str, Any], predicate: Mapping[str, Any]) -> None:
    norms = {item["name"]: item["norm"] for item in predicate["threats"]}
    if union["name"] in norms:
        raise TablePlanError(f"union {union['name']}: a threat has this name")
    for name in union["threats"]:
        if name not in norms:
            raise TablePlanError(f"union {union['name']}: there is no threat {name}")
    if len({norms[name] for name in union["threats"]}) != len(union["threats"]):
        raise TablePlanError(
            f"union {union['name']}: its threats must be of different norms, or the larger says it all"
        )


def _check_sanity(predicate: Mapping[str, Any]) -> None:
    threats = {item["name"] for item in predicate["threats"]}
    for item in predicate["sanity"]:
        if item["passed"] != holds(item):
            comparison = f"{item['statistic']:g} {item['comparator']} {item['threshold']:g}"
            raise TablePlanError(f"sanity check {item['check']}: passed must say whether {comparison}")
        if item["passed"] != (item["outcome"] != "fail"):
            raise TablePlanError(
                f"sanity check {item['check']}: passed must be false exactly where the outcome is fail"
            )
        if "threat" in item and item["threat"] not in threats:
            raise TablePlanError(f"sanity check {item['check']}: there is no threat {item['threat']}")
    if predicate["reliable"] != reliable(predicate["sanity"]):
        raise TablePlanError("reliable must be false exactly where a sanity check failed")


def _check_surface(surface: Mapping[str, Any], predicate: Mapping[str, Any]) -> None:
    if surface["threat"] not in {item["name"] for item in predicate["threats"]}:
        raise TablePlanError(f"surface: there is no threat {surface['threat']}")
    steps = surface["steps"]
    if [len(row) for row in surface["losses"]] != [steps] * steps:
        raise TablePlanError(f"surface: losses must be {steps} rows of {steps} numbers")
