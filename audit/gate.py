"""The gate: every rule of a policy against a verified bundle. A number that is missing fails; it never passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.difference import points
from audit.history import committed_attestations
from audit.metrics import MetricError, find_metric
from audit.pairing import Pair, PairingError, attack_strengths
from audit.policy import NotWorse, Policy, Threshold
from audit.versions import Version, find_version, list_versions, open_version
from bundle.bundle import Bundle
from bundle.claims import find_claim
from bundle.comparisons import paired_difference, score_interval, unpaired_interval
from bundle.digests import sha256_bytes
from bundle.headline import headline_threat
from bundle.plan import ALL_ATTACKS, TIERS
from bundle.signatures import SignatureError, key_id, read_envelope, read_public_key, verify_envelope
from bundle.versions import headline


@dataclass(frozen=True)
class Rule:
    """One rule with what it asks for and what was found."""

    name: str
    required: str
    measured: str
    passed: bool

    def sentence(self) -> str:
        return f"{self.name}: {self.measured}, must be {self.required}"


@dataclass(frozen=True)
class Baseline:
    """The release that a bundle must not be worse than: its name, statement, and its bundle where that is at hand."""

    name: str
    statement: Mapping[str, Any]
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Gate:
    """A policy's answer about one bundle."""

    bundle: Bundle
    policy: Policy
    baseline: Baseline | None
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
            "baseline": self.baseline.name if self.baseline else None,
            "rules": [vars(rule) for rule in self.rules],
        }


def gate(bundle: Bundle, policy: Policy, baseline: Baseline | None = None, trusted: Sequence[Path] = ()) -> Gate:
    """Holds a verified bundle against a policy. `trusted` are key.pub files for the key ids that the policy names."""
    return Gate(bundle, policy, baseline, list(_rules(bundle, policy, baseline, trusted)))


def find_baseline(
    bundle: Bundle, name: str | None, versions: Sequence[Version], root: Path = Path()
) -> Baseline | None:
    """The version of this name, or the last release before this bundle; None where there was none.

    A release is a git tag that holds an attestation: the newest one, or where the bundle's own attestation has a tag,
    the one before that.
    """
    if name is None:
        own = sha256_bytes(bundle.statement_bytes)
        tags = [item for item in committed_attestations(root) if item.kind == "tag"]
        digests = [sha256_bytes(item.content) for item in tags]
        before = tags[digests.index(own) :] if own in digests else tags
        name = next((item.name for item in before if sha256_bytes(item.content) != own), None)
        if name is None:
            return None
    if Path(name).is_dir():
        other = open_version(name)
        return Baseline(name, other.statement, other)
    version = find_version(name, versions)
    if version.statement is None:
        raise MetricError(f"{name}: cannot be the baseline: {version.refusal}")
    folder = version.folder()
    return Baseline(name, version.statement, open_version(folder.as_posix()) if folder else None)


def versions_for(policy: Policy, bundles: Sequence[Path], releases: Path) -> list[Version]:
    """The versions at hand, where the policy asks for a comparison."""
    return list_versions(bundles, releases) if policy.not_worse else []


def _rules(bundle: Bundle, policy: Policy, baseline: Baseline | None, trusted: Sequence[Path]) -> Iterator[Rule]:
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
        yield _not_worse(rule, bundle, baseline)
    yield from _counts(predicate, policy)
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
        required, said = f"at most {policy.test_reads}", f"{reads} models measured on the test split"
        yield Rule("test_reads", required, said, reads <= policy.test_reads)
    if policy.selection is not None:
        split = predicate["selection"]["split"]
        yield Rule("selection", f"on the {policy.selection} split", split, split == policy.selection)
    if policy.sample is not None:
        yield Rule("sample", f">= {policy.sample} images", str(size), size >= policy.sample)


def _signed(bundle: Bundle, policy: Policy, trusted: Sequence[Path]) -> Rule:
    files = {key_id(read_public_key(path)): path for path in (*policy.key_files, *trusted)}
    allowed = {*policy.key_ids, *(key_id(read_public_key(path)) for path in policy.key_files)}
    required = f"signed by {' or '.join(key[:12] for key in sorted(allowed))}"
    if bundle.envelope is None:
        return Rule("signed_by", required, "unsigned", False)
    try:
        named = read_envelope(bundle.envelope, bundle.statement_bytes)[0].key_id
        if named in allowed and named not in files:
            return Rule("signed_by", required, f"names {named[:12]}, whose key.pub was not given (see --trust)", False)
        signer = verify_envelope(
            bundle.envelope, bundle.statement_bytes, [files[key] for key in files if key in allowed]
        )
    except SignatureError as error:
        return Rule("signed_by", required, str(error), False)
    return Rule("signed_by", required, f"signed by {signer}", True)


def _not_worse(rule: NotWorse, bundle: Bundle, baseline: Baseline | None) -> Rule:
    if baseline is None:
        return Rule("not_worse", "not worse than the last release", "there is no release before this one", rule.first)
    threat = rule.threat or headline_threat(bundle.predicate)["name"]
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
    if baseline.bundle is not None and (right := _same_images(rule, threat, attacks, Pair(baseline.bundle, bundle))):
        found = paired_difference(*right)
        return found.difference, score_interval(found), f"paired on {found.images} images"
    interval = unpaired_interval(old["value"], old["interval"], new["value"], new["interval"])
    return new["value"] - old["value"], interval, f"not paired (n {old['sampleSize']} and {new['sampleSize']})"


def _same_images(rule: NotWorse, threat: str, attacks: list[str], pair: Pair) -> list[NDArray[np.bool_]] | None:
    """Which images each side has right; None where the two were not measured on the same ones."""
    try:
        if any(pair.alone):
            return None
    except PairingError:
        return None
    return pair.right(rule.setting, threat if attacks else None, attacks)


def _attacks(rule: NotWorse, threat: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The attacks that the rule is about, [] for clean images.

    Raises MetricError where this version did not meet one of the baseline's in its strength: it would look better than
    it is. What it met beyond them can only lower its number, so the claims of both sides still compare.
    """
    if rule.metric == "clean_accuracy":
        return []
    before, now = attack_strengths(old, threat), attack_strengths(new, threat)
    wanted = list(before) if rule.attack == ALL_ATTACKS else [rule.attack]
    if missing := [name for name in wanted if now.get(name) != before[name]]:
        raise MetricError(f"this version did not meet {', '.join(missing)} of the baseline, or not in its strength")
    return wanted
