"""Not worse than another version: non-inferiority to it, on the same images where both have their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.gate.pairing import Pair, PairingError, attack_strengths
from bundle.gate.policy import MetricError, NotWorse, Rule
from bundle.numbers.claims import find_claim
from bundle.numbers.intervals import paired_difference, score_interval, unpaired_interval
from bundle.pages.headline import headline_threat
from bundle.pages.wording import points
from bundle.table.plan import ALL_ATTACKS

#: Names of attacks by threat.
Attacks = Mapping[str, list[str]]


@dataclass(frozen=True)
class Baseline:
    """The release that a bundle must not be worse than: its name, statement, and its bundle where that is at hand."""

    name: str
    statement: Mapping[str, Any]
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Unseen:
    """Which release came before cannot be told, for this reason; there may be one."""

    reason: str


def not_worse(rule: NotWorse, bundle: Bundle, baseline: Baseline | Unseen | None) -> Rule:
    """The rule's answer about a bundle; without a baseline it is what the policy says of a first release.

    Where nobody can tell whether there was one, the rule fails.
    """
    if isinstance(baseline, Unseen):
        said = f"cannot tell which release came before: {baseline.reason}"
        return Rule("not_worse", "not worse than the last release", said, False)
    if baseline is None:
        return Rule("not_worse", "not worse than the last release", "there is no release before this one", rule.first)
    threat = rule.threat or headline_threat(baseline.statement["predicate"])["name"]
    where = rule.setting if rule.metric == "clean_accuracy" else f"{rule.setting} {threat} {rule.attack}"
    name = f"not_worse than {baseline.name} ({rule.metric} {where})"
    required = f"above {points(-rule.margin)} points at the lower end of the interval"
    try:
        difference, interval, how = _difference(rule, threat, bundle, baseline)
    except MetricError as error:
        return Rule(name, required, str(error), False)
    said = f"{points(difference)} points [{points(interval[0])}, {points(interval[1])}], {how}"
    return Rule(name, required, said, interval[0] > -rule.margin)


def _difference(
    rule: NotWorse, threat: str, bundle: Bundle, baseline: Baseline
) -> tuple[float, tuple[float, float], str]:
    """The bundle minus the baseline: on the same images where both have their rows, else from the two claims."""
    keys = {"setting": rule.setting}
    if rule.metric == "robust_accuracy":
        keys |= {"threat": threat, "attack": rule.attack}
    old, new = (find_claim(item["predicate"], rule.metric, **keys) for item in (baseline.statement, bundle.statement))
    if old is None or new is None:
        raise MetricError(f"{baseline.name if old is None else 'this version'} has no such number")
    attacks = _attacks(rule, threat, baseline.statement["predicate"], bundle.predicate)
    if baseline.bundle is not None and (right := _same_images(rule, attacks, Pair(baseline.bundle, bundle))):
        found = paired_difference(*right)
        return found.difference, score_interval(found), f"paired on {found.images} images"
    interval = unpaired_interval(old["value"], old["interval"], new["value"], new["interval"])
    return new["value"] - old["value"], interval, f"not paired (n {old['sampleSize']} and {new['sampleSize']})"


def _same_images(rule: NotWorse, attacks: Attacks, pair: Pair) -> list[NDArray[np.bool_]] | None:
    """Which images each side has right; None where the two were not measured on the same ones."""
    try:
        if any(pair.unpaired):
            return None
    except PairingError:
        return None
    parts = [pair.right(rule.setting, threat, names) for threat, names in attacks.items()]
    return [np.logical_and.reduce(side) for side in zip(*(parts or [pair.right(rule.setting)]), strict=True)]


def _attacks(rule: NotWorse, threat: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Attacks:
    """The attacks that the rule is about, by threat, of which a union has several; none for clean images.

    Raises MetricError where this version did not meet one of the baseline's in its strength: it would look better than
    it is. What it met beyond them can only lower its number, so the claims of both sides still compare.
    """
    if rule.metric == "clean_accuracy":
        return {}
    if (parts := _parts(threat, old)) != _parts(threat, new):
        raise MetricError(f"{threat} joins other threats in this version than in the baseline")
    return {part: _wanted(rule, attack_strengths(old, part), attack_strengths(new, part)) for part in parts}


def _parts(threat: str, predicate: Mapping[str, Any]) -> list[str]:
    """The threats of a union; of a threat itself, that one."""
    return next((item["threats"] for item in predicate["unions"] if item["name"] == threat), [threat])


def _wanted(rule: NotWorse, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    wanted = list(before) if rule.attack == ALL_ATTACKS else [rule.attack]
    if missing := [name for name in wanted if now.get(name) != before[name]]:
        raise MetricError(f"this version did not meet {', '.join(missing)} of the baseline, or not in its strength")
    return wanted
