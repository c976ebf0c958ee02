"""Whether a verified bundle may be served here: whose signature it has, and the operator's own policy.

Whose signatures count: a policy of trusted keys, for whoever verifies, serves or gates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.gate.gate import Baseline, Gate, gate
from bundle.gate.policy import Policy
from bundle.gate.reading import read_policy
from bundle.layout import ENVELOPE
from bundle.signatures import PUBLIC_KEY, SignatureError, key_files, key_id, read_public_key, verify_with
from serving.settings import Settings


@dataclass(frozen=True)
class Signer:
    """A trusted key that signed: its id, and the name under which the policy knows it."""

    key_id: str
    name: str


@dataclass(frozen=True)
class TrustPolicy:
    """Trusted keys by id, with a name for each; any one of them may have signed."""

    keys: Mapping[str, Ed25519PublicKey]
    names: Mapping[str, str]

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> TrustPolicy:
        """The policy of key files and of folders of them.

        A folder stands for every `*.pub` in it. A key's name is its file's, without `.pub`; of a `key.pub`, as
        `hallmark keygen DIR` makes it, it is the folder's. A key that is there twice has the first name. Raises
        SignatureError where a file is no Ed25519 public key, a folder has none, or no key is named at all.
        """
        keys: dict[str, Ed25519PublicKey] = {}
        names: dict[str, str] = {}
        for path in key_files(paths):
            key = read_public_key(path)
            keys.setdefault(key_id(key), key)
            names.setdefault(key_id(key), _name(path))
        if not keys:
            raise SignatureError(f"trusted keys: there must be at least one {PUBLIC_KEY}, or nobody is trusted")
        return cls(keys, names)

    def check(self, bundle: Bundle) -> Signer:
        """Who signed a verified bundle.

        Raises SignatureError where it is unsigned, or by a key that is not trusted; the message names the key.
        """
        if bundle.envelope is None:
            raise SignatureError(f"{ENVELOPE}: is missing from {bundle.path}; only signed bundles are trusted here")
        return self.signer(verify_with(bundle.envelope, bundle.statement_bytes, self.keys))

    def signer(self, name: str) -> Signer:
        """The signer with this key id; raises SignatureError where it is not trusted."""
        if name not in self.keys:
            raise SignatureError(f"key {name} is not among the trusted keys: {self.describe()}")
        return Signer(name, self.names[name])

    def describe(self) -> str:
        """The trusted keys for people, each by name and the first digits of its id."""
        return ", ".join(f"{self.names[key]} ({key[:12]}…)" for key in sorted(self.keys))


def _name(path: Path) -> str:
    # Not what a link leads to: in a mounted volume that is a folder named by the time.
    return Path(os.path.abspath(path)).parent.name if path.name == PUBLIC_KEY else path.stem


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

    Raises HallmarkError where it is not signed as asked, or does not meet the policy.
    """
    signer = TrustPolicy.read(_paths(settings.trust)).check(bundle) if settings.trust else None
    return Trust(signer, _gate(settings, bundle) if settings.policy else None)


def _gate(settings: Settings, bundle: Bundle) -> Gate:
    policy = read_policy(Path(settings.policy))
    found = gate(bundle, policy, _baseline(settings, policy), _paths(settings.trust))
    if found.failed:
        raise HallmarkError(found.sentence())
    return found


def _baseline(settings: Settings, policy: Policy) -> Baseline | None:
    if not settings.baseline:
        if policy.not_worse:
            raise HallmarkError(
                f"{policy.source}: asks for not_worse; HALLMARK_BASELINE must name the bundle to compare with"
            )
        return None
    other = open_bundle(settings.baseline)
    return Baseline(settings.baseline, other.statement, other)


def _paths(trust: str) -> list[Path]:
    return [Path(path) for path in trust.split(os.pathsep) if path]
