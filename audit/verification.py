"""Verification of a bundle: the files and claims, the signature, and the data where the auditor has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from audit.data import DataCheck, DataError, check_data
from audit.proof import ProofCheck, ProofError, check_proof
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import ENVELOPE
from bundle.signatures import read_envelope, verify_envelope

State = Literal["unsigned", "unchecked", "signed"]


class UnsignedError(HallmarkError):
    """The bundle is consistent, but carries no signature where one was asked for."""


@dataclass(frozen=True)
class SignatureState:
    """`unsigned`; `unchecked`, where an envelope names a key that nobody asked to trust; `signed` by a trusted key."""

    state: State
    key_id: str | None = None

    def sentence(self) -> str:
        """The state as people read it."""
        if self.state == "unsigned":
            return "consistent but unsigned"
        if self.state == "signed":
            return f"signed by {self.key_id}"
        return f"consistent; names signing key {self.key_id}, which you did not ask to trust: not checked (see --trust)"


@dataclass(frozen=True)
class Verification:
    """A bundle that was not refused, and what was found."""

    bundle: Bundle
    signature: SignatureState
    data: DataCheck | None
    proof: ProofCheck | None = None

    def details(self) -> dict[str, Any]:
        """What was checked, as counts and digests."""
        predicate, private = self.bundle.predicate, self.bundle.evidence == "private"
        return {
            "model": self.bundle.digest,
            "attestation": sha256_bytes(self.bundle.statement_bytes),
            "files": len(self.bundle.files) + (self.signature.state != "unsigned"),
            "claims": len(predicate["claims"]),
            "bounds": len(predicate["bounds"]),
            "images": 0 if private else sum(len(array) for array in self.bundle.images.values()),
            "dataRows": self.data.rows if self.data else 0,
            "dataFiles": list(self.data.files) if self.data else [],
            "evidence": self.bundle.evidence,
            "proof": self.proof.describe() if self.proof else None,
        }


def signature_state(bundle: Bundle, trusted: Sequence[Path]) -> SignatureState:
    """What is known of who signed; raises SignatureError where an envelope is there and does not hold.

    Without trusted keys only the envelope's form is checked, and that it is about this attestation.
    """
    if bundle.envelope is None:
        return SignatureState("unsigned")
    if trusted:
        return SignatureState("signed", verify_envelope(bundle.envelope, bundle.statement_bytes, trusted))
    return SignatureState("unchecked", read_envelope(bundle.envelope, bundle.statement_bytes)[0].key_id)


def verify(
    path: str | Path,
    trusted: Sequence[Path] = (),
    data: Path | None = None,
    proof: tuple[Path | None, Path | None] = (None, None),
) -> Verification:
    """Verifies a bundle; raises a HallmarkError that names the file, claim, row or key where it is refused.

    `trusted` are key.pub files or folders of them: with any, a bundle without a signature raises UnsignedError. `data`
    is a folder like out/data, against which every row is held. `proof` opens rows of private evidence, and the challenge
    that it answers (bundle.private); one without the other raises ProofError.
    """
    bundle = open_bundle(path)
    signature = signature_state(bundle, trusted)
    if trusted and signature.state == "unsigned":
        raise UnsignedError(f"consistent but unsigned: {path} has no {ENVELOPE}, and a trusted signature was asked for")
    if data and bundle.evidence == "private":
        raise DataError(
            f"{path}: has private evidence, whose digests are salted; see hallmark challenge instead of --data"
        )
    checked = check_data(bundle.outcomes, data) if data else None
    return Verification(bundle, signature, checked, _check_opened(bundle, *proof))


def _check_opened(bundle: Bundle, proof: Path | None, challenge: Path | None) -> ProofCheck | None:
    if proof is None and challenge is None:
        return None
    if proof is None or challenge is None:
        raise ProofError("a proof is held against the challenge that you drew: give both --proof and --challenge")
    return check_proof(bundle, proof, challenge)
