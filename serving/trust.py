"""Whether a verified bundle may be served here: whose signature it has, and the operator's own policy."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.gate.baseline import Baseline
from bundle.gate.gate import Gate, gate
from bundle.gate.policy import Policy
from bundle.gate.reading import read_policy
from bundle.trust import Signer, TrustPolicy
from serving.settings import Settings


class TrustError(HallmarkError):
    """The bundle may not be served here; the message names the key or the failed rules."""


@dataclass(frozen=True)
class Trust:
    """Who signed the bundle, of the trusted keys, and which policy it meets; None where none was asked for."""

    signer: Signer | None
    gate: Gate | None

    def describe(self) -> dict[str, Any]:
        """As /robustness says it."""
        signed = None if self.signer is None else {"name": self.signer.name, "key_id": self.signer.key_id}
        met = None if self.gate is None else {"sha256": self.gate.policy.sha256, "rules": len(self.gate.rules)}
        return {"signed_by": signed, "policy": met}


def check_trust(settings: Settings, bundle: Bundle) -> Trust:
    """Holds a verified bundle against the settings.

    Raises SignatureError, PolicyError or TrustError where it is not signed as asked, or does not meet the policy.
    """
    signer = TrustPolicy.read(_paths(settings.trust)).check(bundle) if settings.trust else None
    return Trust(signer, _gate(settings, bundle) if settings.policy else None)


def _gate(settings: Settings, bundle: Bundle) -> Gate:
    policy = read_policy(Path(settings.policy))
    found = gate(bundle, policy, _baseline(settings, policy), _paths(settings.trust))
    if found.failed:
        raise TrustError(found.sentence())
    return found


def _baseline(settings: Settings, policy: Policy) -> Baseline | None:
    if not settings.baseline:
        if policy.not_worse:
            raise TrustError(
                f"{policy.source}: asks for not_worse; HALLMARK_BASELINE must name the bundle to compare with"
            )
        return None
    other = open_bundle(settings.baseline)
    return Baseline(settings.baseline, other.statement, other)


def _paths(trust: str) -> list[Path]:
    return [Path(path) for path in trust.split(os.pathsep) if path]
