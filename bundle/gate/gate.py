"""The gate: every rule of a policy against a verified bundle. A number that is missing fails; it never passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.bundle import Bundle
from bundle.digests import sha256_bytes
from bundle.gate.baseline import Baseline, Unseen, not_worse
from bundle.gate.policy import MetricError, Policy, Rule, Threshold, find_metric
from bundle.leakage import LEAKS, leaked_shares
from bundle.pages.headline import headline
from bundle.signatures import SignatureError, read_envelope, read_public_keys, verify_with
from bundle.table.plan import TIERS


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
    shares = leaked_shares(data.get("leakage", {}), data["splits"])
    for leak, most in policy.leakage.items():
        said = f"{shares[leak]:.4g}" if leak in shares else "the attestation does not say"
        yield Rule(
            f"leakage {leak}", f"at most {most:g}", f"{said} ({LEAKS[leak]})", shares.get(leak, math.inf) <= most
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
