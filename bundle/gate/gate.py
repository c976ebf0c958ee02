"""The gate: every rule of a policy against a verified bundle. A number that is missing fails; it never passes.

One rule compares with an earlier version, the baseline: not worse than it (non-inferiority), on the same images where
both have their rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.digests import sha256_bytes
from bundle.gate.pairing import Pair, PairingError, attack_strengths
from bundle.gate.policy import MetricError, NotWorse, Policy, Rule, Threshold, find_metric
from bundle.leakage import LEAKS, leaked_fractions
from bundle.numbers.claims import find_claim
from bundle.numbers.intervals import paired_difference, score_interval, unpaired_interval
from bundle.pages.headline import headline, headline_threat
from bundle.pages.wording import points
from bundle.signatures import SignatureError, read_envelope, read_public_keys, verify_with
from bundle.table.plan import ALL_ATTACKS, TIERS

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


@dataclass(frozen=True)
class Gate:
    """A policy's answer about one bundle."""

    bundle: Bundle
    policy: Policy
    baseline: Baseline | Unseen | None
    rules: Sequence[Rule]

    @property
    def failed(self) -> list[Rule]:
        return [rule for rule in self.rules if not rule.passed]

    def sentence(self) -> str:
        """The answer; where it is a refusal, with every failed rule."""
        if not self.failed:
            return f"Version {self.bundle.version} meets {self.policy.source}: {len(self.rules)} rules"
        failed = "; ".join(rule.sentence() for rule in self.failed)
        return f"{self.bundle.version} does not meet {self.policy.source}: {failed}"

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "passed": not self.failed,
            "version": self.bundle.version,
            "digest": self.bundle.digest,
            "attestation": sha256_bytes(self.bundle.statement_bytes),
            "policy": {"file": self.policy.source, "sha256": self.policy.sha256},
            "baseline": self.baseline.name if isinstance(self.baseline, Baseline) else None,
            "rules": [vars(rule) for rule in self.rules],
        }


def gate(
    bundle: Bundle, policy: Policy, baseline: Baseline | Unseen | None = None, trusted: Sequence[Path] = ()
) -> Gate:
    """Holds a verified bundle against a policy.

    `trusted` are key.pub files, or folders of them, for the key ids that the policy names.
    """
    return Gate(bundle, policy, baseline, list(_rules(bundle, policy, baseline, trusted)))


def _rules(
    bundle: Bundle, policy: Policy, baseline: Baseline | Unseen | None, trusted: Sequence[Path]
) -> Iterator[Rule]:
    predicate = bundle.predicate
    for threshold in policy.metrics:
        yield _threshold(threshold, predicate)
    if policy.tier is not None:
        good = TIERS.index(predicate["tier"]) >= TIERS.index(policy.tier)
        yield Rule("tier", f"{policy.tier} or more", predicate["tier"], good)
    if policy.flags is not None:
        yield _flags(bundle, policy.flags)
    if policy.reliable:
        failed = [item["check"] for item in predicate["sanity"] if item["outcome"] == "fail"]
        said = f"unreliable ({', '.join(failed)} failed)" if failed else "reliable"
        checked = bool(predicate["sanity"])
        yield Rule("reliable", "reliable", said if checked else "no sanity check was run", checked and not failed)
    for rule in policy.not_worse:
        yield not_worse(rule, bundle, baseline)
    yield from _counts(predicate, policy)
    yield from _leaks(predicate["data"], policy)
    if policy.key_ids or policy.key_files:
        yield _signed(bundle, policy, trusted)


def _threshold(threshold: Threshold, predicate: Mapping[str, Any]) -> Rule:
    end = "" if threshold.end == "value" else f" ({threshold.end} end of the interval)"
    bounds = [(">=", threshold.minimum), ("<=", threshold.maximum)]
    required = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
    name = f"{threshold.title}{end}"
    try:
        item = find_metric(predicate, threshold.metric, threshold.keys)
        value = _end(item, threshold.end)
    except MetricError as error:
        return Rule(name, required, str(error), False)
    # Written so that a value that is no number meets nothing.
    above = threshold.minimum is None or value >= threshold.minimum
    below = threshold.maximum is None or value <= threshold.maximum
    return Rule(name, required, _measured(item, value), above and below)


def _end(item: Mapping[str, Any], end: str) -> float:
    if end == "value":
        return item["value"]
    if "interval" not in item:
        raise MetricError("has no interval in the attestation")
    return item["interval"][0 if end == "lower" else 1]


def _measured(item: Mapping[str, Any], value: float) -> str:
    if "interval" not in item:
        return f"{value:.4g}"
    lower, upper = item["interval"]
    return f"{value:.4f} (measured {item['value']:.4f} [{lower:.4f}, {upper:.4f}], n {item['sampleSize']})"


def _flags(bundle: Bundle, most: int) -> Rule:
    flags = headline(bundle.statement)["flags"]
    said = f"{len(flags)} ({'; '.join(flags)})" if flags else "none"
    return Rule("flags", "none" if most == 0 else f"at most {most}", said, len(flags) <= most)


def _counts(predicate: Mapping[str, Any], policy: Policy) -> Iterator[Rule]:
    reads, size = predicate["testReads"]["models"], predicate["sample"]["size"]
    if policy.test_reads is not None:
        required, said = f"at most {policy.test_reads}", f"{reads} model{'s' * (reads > 1)} measured on the test split"
        known = predicate["testReads"].get("complete", True)  # attestations of before do not say
        unread = "" if known else ", and maybe more: git's history could not be read in full when it was attested"
        yield Rule("test_reads", required, f"{said}{unread}", known and reads <= policy.test_reads)
    if policy.selection is not None:
        split = predicate["selection"]["split"]
        yield Rule("selection", f"on the {policy.selection} split", split, split == policy.selection)
    if policy.sample is not None:
        yield Rule("sample", f">= {policy.sample} images", str(size), size >= policy.sample)


def _leaks(data: Mapping[str, Any], policy: Policy) -> Iterator[Rule]:
    fractions = leaked_fractions(data.get("leakage", {}), data["splits"])
    for leak, most in policy.leakage.items():
        said = f"{fractions[leak]:.4g}" if leak in fractions else "the attestation does not say"
        yield Rule(
            f"leakage {leak}", f"at most {most:g}", f"{said} ({LEAKS[leak]})", fractions.get(leak, math.inf) <= most
        )


def _signed(bundle: Bundle, policy: Policy, trusted: Sequence[Path]) -> Rule:
    own = read_public_keys(policy.key_files)
    keys, allowed = own | read_public_keys(trusted), {*policy.key_ids, *own}
    required = f"signed by {' or '.join(key[:12] for key in sorted(allowed))}"
    if bundle.envelope is None:
        return Rule("signed_by", required, "unsigned", False)
    try:
        named = read_envelope(bundle.envelope, bundle.statement_bytes)[0].key_id
        if named in allowed and named not in keys:
            return Rule("signed_by", required, f"names {named[:12]}, whose key.pub was not given (see --trust)", False)
        accepted = {name: key for name, key in keys.items() if name in allowed}
        signer = verify_with(bundle.envelope, bundle.statement_bytes, accepted)
    except SignatureError as error:
        return Rule("signed_by", required, str(error), False)
    return Rule("signed_by", required, f"signed by {signer}", True)


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
