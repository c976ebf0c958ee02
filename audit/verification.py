"""Verification of a bundle: the files and claims, the signature, and the data where the auditor has them.

A bundle's rows held against the test split that an auditor has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from audit.private.proof import ProofCheck, check_proof
from bundle.bundle import Bundle, open_bundle
from bundle.digests import each_once, sha256_bytes
from bundle.errors import HallmarkError
from bundle.formats.archives import ArchiveError, open_arrays
from bundle.layout import ENVELOPE, OUTCOMES
from bundle.pages.notebook import headline_html, headline_line
from bundle.signatures import SignatureError, read_envelope, verify_envelope
from bundle.table.outcomes import Outcomes, image_digests

State = Literal["unsigned", "unchecked", "signed"]


class UnsignedError(HallmarkError):
    """The bundle is consistent, but carries no signature where one was asked for."""


@dataclass(frozen=True)
class SignatureState:
    """`unsigned`; `unchecked`, where an envelope names a key that nobody asked to trust; `signed` by a trusted key.

    `signed_at` is the signer's word for when, covered by its key where that is trusted; None where it gave none.
    """

    state: State
    key_id: str | None = None
    signed_at: str | None = None

    def sentence(self) -> str:
        """The state as people read it."""
        if self.state == "unsigned":
            return "consistent but unsigned"
        if self.state == "signed":
            return f"signed by {self.key_id}{f', {self.signed_at}' if self.signed_at else ''}"
        return f"consistent; names signing key {self.key_id}, which you did not ask to trust: not checked (see --trust)"


@dataclass(frozen=True)
class Verification:
    """A bundle that was not refused, and what was found."""

    bundle: Bundle
    signature: SignatureState
    data: DataCheck | None
    proof: ProofCheck | None = None

    def __repr__(self) -> str:
        return f"Verification({self.signature.sentence()}; {headline_line(self.bundle.statement)})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.signature.sentence())}</p>{headline_html(self.bundle.statement)}"

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
    first = read_envelope(bundle.envelope, bundle.statement_bytes)[0]
    if trusted:
        verify_envelope(bundle.envelope, bundle.statement_bytes, trusted)
    return SignatureState("signed" if trusted else "unchecked", first.key_id, first.signed_at)


def same_signature(first: bytes | None, second: bytes | None, statement_bytes: bytes) -> bool:
    """Whether two envelopes are the same keys' signatures of these bytes, whatever the times beside them; none is like none.

    Ed25519 gives one signature of the same bytes by the same key.
    """
    if first is None or second is None:
        return first is second
    try:
        sides = [read_envelope(envelope, statement_bytes) for envelope in (first, second)]
    except SignatureError:
        return False
    ours, theirs = ([(item.key_id, item.value) for item in side] for side in sides)
    return ours == theirs


def verify(
    path: str | Path,
    trusted: Sequence[Path] = (),
    data: Path | None = None,
    proof: tuple[Path | None, Path | None] = (None, None),
) -> Verification:
    """Verifies a bundle; raises a HallmarkError that names the file, claim, row or key where it is refused.

    `trusted` are key.pub files or folders of them: with any, a bundle without a signature raises UnsignedError. `data`
    is a folder like out/data, against which every row is held. `proof` opens rows of private evidence, and the challenge
    that it answers (bundle.private); one without the other raises HallmarkError.
    """
    bundle = open_bundle(path)
    signature = signature_state(bundle, trusted)
    if trusted and signature.state == "unsigned":
        raise UnsignedError(f"consistent but unsigned: {path} has no {ENVELOPE}, and a trusted signature was asked for")
    if data and bundle.evidence == "private":
        raise HallmarkError(
            f"{path}: has private evidence, whose digests are salted; see hallmark challenge instead of --data"
        )
    checked = check_data(bundle.outcomes, data) if data else None
    return Verification(bundle, signature, checked, _check_opened(bundle, *proof))


def _check_opened(bundle: Bundle, proof: Path | None, challenge: Path | None) -> ProofCheck | None:
    if proof is None and challenge is None:
        return None
    if proof is None or challenge is None:
        raise HallmarkError("a proof is held against the challenge that you drew: give both --proof and --challenge")
    return check_proof(bundle, proof, challenge)


MANIFEST = "manifest.json"
TEST_SPLIT = "test.npz"


@dataclass(frozen=True)
class DataCheck:
    """What was held against what: rows of the bundle, files of the folder, and whether labels were among them."""

    rows: int
    files: tuple[str, ...]
    labels: bool


def check_data(outcomes: Outcomes, folder: str | Path) -> DataCheck:
    """Holds every row's index, label and image digest against a folder like out/data.

    `manifest.json` has `test_images_sha256` (the SHA-256 of each test image's uint8 bytes, (H, W, C) in C order);
    `test.npz` has `images` uint8 (N, H, W, C) and `labels` (N,). One is enough; where both are there, both must agree.
    Raises HallmarkError that names the first row that differs.
    """
    folder = Path(folder)
    files: list[str] = []
    labels = False
    if (folder / MANIFEST).is_file():
        _check_digests(outcomes, _manifest_digests(folder / MANIFEST), folder / MANIFEST)
        files.append(MANIFEST)
    if (folder / TEST_SPLIT).is_file():
        images, known = read_split(folder / TEST_SPLIT)
        _check_digests(outcomes, image_digests(images), folder / TEST_SPLIT)
        _check_labels(outcomes, known, folder / TEST_SPLIT)
        files.append(TEST_SPLIT)
        labels = True
    if not files:
        raise HallmarkError(
            f"{folder}: must hold {MANIFEST} or {TEST_SPLIT}, as the stage prepare writes them to out/data"
        )
    return DataCheck(len(outcomes), tuple(files), labels)


def _check_digests(outcomes: Outcomes, known: Sequence[str], source: Path) -> None:
    for row, (index, said) in enumerate(zip(outcomes["index"], outcomes["image_sha256"], strict=True)):
        if index >= len(known):
            raise HallmarkError(f"{OUTCOMES}: row {row} has index {index}, {source} has only {len(known)} images")
        if known[index] != said:
            raise HallmarkError(f"{OUTCOMES}: row {row} (index {index}) is not the image that {source} has there")


def _check_labels(outcomes: Outcomes, known: NDArray[Any], source: Path) -> None:
    for row, (index, said) in enumerate(zip(outcomes["index"], outcomes["label"], strict=True)):
        if known[index] != said:
            raise HallmarkError(f"{OUTCOMES}: row {row} (index {index}) has label {said}, {source} has {known[index]}")


def _manifest_digests(path: Path) -> list[str]:
    try:
        digests: Any = json.loads(path.read_bytes(), object_pairs_hook=each_once)["test_images_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        digests = None
    if not isinstance(digests, list):
        raise HallmarkError(f"{path}: is not a manifest with a list test_images_sha256")
    return cast("list[str]", digests)


def read_split(path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """The images uint8 (N, H, W, C) and labels (N,) of a test.npz; raises HallmarkError where it is no such file."""
    try:
        with open_arrays(path) as archive:
            images, labels = archive.read("images"), archive.read("labels")
    except ArchiveError:
        raise HallmarkError(f"{path}: is not an npz archive with images and labels") from None
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise HallmarkError(
            f"{path}: must hold images uint8 (N, H, W, C) and labels (N,), holds {images.shape} {labels.shape}"
        )
    return images, labels
