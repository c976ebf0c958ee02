"""A challenge: rows of a bundle with private evidence that its owner is asked to open; and opened rows, checked.

The rows follow from a nonce that the owner could not know when the attestation was made: they are the `count` rows with
the smallest SHA-256("hallmark challenge v1\\0" ‖ nonce ‖ attestation's SHA-256 ‖ row), the row as 8 bytes, the highest
first. The nonce is 32 bytes of the system's entropy, which convinces whoever drew it; or the SHA-256 of a text, such as
a value that a public source of randomness published after the signature, which convinces everybody who trusts the
source. Anybody can draw the rows of a nonce again, so none can be picked by hand.

Opened rows are held against the attested root, their balls, the outcome table and the model.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.checks import outside
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import OUTCOMES, ROWS, read_bounded
from bundle.private import CLEAN, DECIMALS, DIGITS, FIELD, image_sets, path_root, row_leaf, salted_digest
from bundle.served.replay import reach
from bundle.table.outcomes import Outcomes, confidences, margins

if TYPE_CHECKING:
    from bundle.served.runtime import OnnxClassifier

TYPE = "urn:hallmark:challenge:v1"
DRAWN = b"hallmark challenge v1\0"
SYSTEM = "system entropy"
TEXT = "text: "
NONCE_BYTES = 32
#: The largest file that names every row of a table, in bytes.
MOST_BYTES = 16 << 20
#: How far a number may be from one that was rounded to DIGITS significant digits, as a fraction; and to DECIMALS.
RELATIVE = 0.5 * 10.0 ** (1 - DIGITS)
ABSOLUTE = 0.5 * 10.0**-DECIMALS


@dataclass(frozen=True)
class Challenge:
    """Which rows are to be opened.

    `attestation` and `model` are the SHA-256 of attestation.json and of model.onnx, `rows` places in the outcome table
    (0 is the first, ascending) out of `of`, `nonce` 64 hexadecimal digits, `source` where it is from: `system entropy`,
    or `text: ` and the text.
    """

    attestation: str
    model: str
    of: int
    rows: tuple[int, ...]
    nonce: str
    source: str

    def encode(self) -> bytes:
        """The bytes of a challenge file: canonical JSON, so that one challenge has one spelling."""
        return canonical_json({"type": TYPE, **asdict(self), "rows": list(self.rows)})


def draw_challenge(bundle: Bundle, count: int, seed_from: str | None = None) -> Challenge:
    """Draws `count` different rows, from the system's entropy or from a text.

    Raises HallmarkError where the bundle has its images, so that there is nothing to ask for, and where `count` is not
    1 to the number of its rows.
    """
    if bundle.evidence == "open":
        raise HallmarkError(f"{bundle.path}: holds its images, so every row can be checked without a challenge")
    size = len(bundle.outcomes)
    if not 1 <= count <= size:
        raise HallmarkError(f"a challenge must name 1 to {size} rows, as many as the bundle has, not {count}")
    nonce = _nonce(seed_from)
    attestation = sha256_bytes(bundle.statement_bytes)
    source = SYSTEM if seed_from is None else f"{TEXT}{seed_from}"
    return Challenge(attestation, bundle.digest, size, drawn_rows(nonce, attestation, size, count), nonce, source)


def drawn_rows(nonce: str, attestation: str, size: int, count: int) -> tuple[int, ...]:
    """The rows that a nonce names, ascending; nonce and attestation are 64 hexadecimal digits."""
    start = DRAWN + bytes.fromhex(nonce) + bytes.fromhex(attestation)
    rows = nsmallest(count, range(size), key=lambda row: sha256(start + row.to_bytes(8, "big")).digest())
    return tuple(sorted(rows))


def read_challenge(content: bytes, where: str) -> Challenge:
    """Parses a challenge file; `where` names it in the messages.

    Raises HallmarkError where it is not canonical to the byte, or its rows are not those of its nonce.
    """
    try:
        challenge = _parse(json.loads(content))
        same = challenge.encode() == content
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        same, challenge = False, None
    if challenge is None or not same:
        raise HallmarkError(f"{where}: is not a challenge as `hallmark challenge` writes it, to the byte")
    if challenge.rows != drawn_rows(challenge.nonce, challenge.attestation, challenge.of, len(challenge.rows)):
        raise HallmarkError(f"{where}: its rows are not those that its nonce names")
    if challenge.source != SYSTEM and _nonce(challenge.source.removeprefix(TEXT)) != challenge.nonce:
        raise HallmarkError(f"{where}: its nonce is not that of its source, {challenge.source}")
    return challenge


def _parse(document: Any) -> Challenge:
    """A challenge of unknown origin; raises ValueError, TypeError, KeyError or AttributeError where it is none."""
    names = ("attestation", "model", "nonce")
    texts = {name: str(document[name]) for name in names}
    source, of = str(document["source"]), int(document["of"])
    if not all(re.fullmatch("[0-9a-f]{64}", text) for text in texts.values()):
        raise ValueError("digests and nonces have 64 hexadecimal digits")
    if not 1 <= len(document["rows"]) <= of <= ROWS or not (source == SYSTEM or source.startswith(TEXT)):
        raise ValueError("no such rows or source")
    return Challenge(of=of, rows=tuple(map(int, document["rows"])), source=source, **texts)


def check_bundle(challenge: Challenge, bundle: Bundle, where: str) -> None:
    """Raises HallmarkError where a challenge is about another bundle than this one."""
    if challenge.attestation != sha256_bytes(bundle.statement_bytes) or challenge.of != len(bundle.outcomes):
        raise HallmarkError(f"{where}: is about attestation {challenge.attestation[:12]}…, not that of {bundle.path}")


def load_challenge(path: str | Path) -> Challenge:
    """Reads a challenge file; raises HallmarkError where it is missing or is none."""
    try:
        return read_challenge(read_bounded(Path(path), MOST_BYTES), str(path))
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read as a challenge ({error.strerror})") from None


def _nonce(text: str | None) -> str:
    return secrets.token_hex(NONCE_BYTES) if text is None else sha256_bytes(text.encode())


@dataclass(frozen=True)
class Opening:
    """One row opened: its place in the outcome table, its salt (32 bytes), its audit path, its images (H, W, C)."""

    row: int
    salt: bytes
    path: Sequence[bytes]
    images: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Replayed:
    """What a check ran: images, and how many the model answered otherwise here, within the tolerance.

    `different` counts the different clean images: one easy image in many rows is true in each of them.
    """

    images: int
    different: int
    moved: int
    provider: str


def check_openings(bundle: Bundle, openings: Sequence[Opening], threads: int = 2) -> Replayed:
    """Checks opened rows of a private bundle; raises HallmarkError that names the first row that is not true.

    Checked of each row: the images are those of image_sets() in the model's shape; salt, images and the outcome table's
    columns give a leaf under the attested root; `image_sha256` is the salted digest of the clean image; each adversarial
    image lies in its ball; and model.onnx, run here on the CPU, gives the served answers, margins and confidences of
    the table. A host rounds otherwise than another: logits may be off by the attested parity's tolerance, so an answer
    counts as the table's where its logit is within twice that of the largest, and is counted as `moved`.

    Not checked, since it needs more than the images: the reference setting, answers to corrupted images, smoothed
    counts, distances and proofs.
    """
    for opening in openings:
        _check_committed(bundle, opening)
    names = image_sets(bundle.predicate)
    stacked = {name: np.stack([opening.images[name] for opening in openings]) for name in names}
    for name, place in outside(stacked, bundle.predicate):
        raise HallmarkError(f"row {openings[place].row}: {name} lies outside its ball")
    classifier = _classifier(bundle.model, threads)
    rows = np.array([opening.row for opening in openings])
    said = Outcomes({name: values[rows] for name, values in bundle.outcomes.columns.items()})
    tolerance = reach(bundle.predicate)
    moved = sum(_moved(said, name, rows, classifier.logits_in_batches(stacked[name]), tolerance) for name in names)
    different = len({image.tobytes() for image in stacked[CLEAN]})
    return Replayed(len(rows) * len(names), different, moved, classifier.provider)


def _check_committed(bundle: Bundle, opening: Opening) -> None:
    names, shape = image_sets(bundle.predicate), tuple(bundle.predicate["data"]["shape"])
    if set(opening.images) != set(names):
        raise HallmarkError(f"row {opening.row}: must open exactly {', '.join(names)}")
    for name, image in opening.images.items():
        if image.dtype != np.uint8 or image.shape != shape:
            raise HallmarkError(f"row {opening.row}: {name} must be uint8 {shape}, is {image.dtype} {image.shape}")
    images = [opening.images[name] for name in names]
    try:
        leaf = row_leaf(opening.salt, bundle.outcomes, opening.row, names, images)
        root = path_root(leaf, opening.row, len(bundle.outcomes), opening.path).hex()
    except (ValueError, IndexError) as error:
        raise HallmarkError(f"row {opening.row}: {error}") from None
    if root != bundle.predicate[FIELD]["root"]:
        raise HallmarkError(f"row {opening.row}: what was opened is not what the attestation's {FIELD} root commits to")
    if salted_digest(opening.salt, opening.images[CLEAN]) != bundle.outcomes["image_sha256"][opening.row]:
        raise HallmarkError(f"row {opening.row}: {CLEAN} is not the image of image_sha256 in {OUTCOMES}")


def _moved(said: Outcomes, name: str, rows: NDArray[np.integer], logits: NDArray[np.float32], tolerance: float) -> int:
    """How many answers are others here, all within the tolerance; raises HallmarkError where one is not."""
    answers, place = said[f"served/{name}/prediction"], np.arange(len(rows))
    other = logits.argmax(axis=1) != answers
    far = other & ~(logits.max(axis=1) - logits[place, answers] <= tolerance)
    labels, confidence = said["label"], said[f"served/{name}/confidence"]
    margin_here, margin = margins(logits, labels), said[f"served/{name}/margin"]
    checks = {
        "answer": ~far,
        "margin": np.isclose(margin_here, margin, rtol=RELATIVE, atol=tolerance, equal_nan=True),
        "confidence": np.isclose(confidences(logits), confidence, rtol=0, atol=ABSOLUTE + tolerance),
    }
    for what, right in checks.items():
        for wrong in np.flatnonzero(~right)[:1]:
            told = f"the model's {what} on {name} is not the one in {OUTCOMES}"
            raise HallmarkError(f"row {rows[wrong]}: {told}")
    return int(other.sum())


def _classifier(model: bytes, threads: int) -> OnnxClassifier:
    """Raises HallmarkError where ONNX Runtime is missing: an auditor's small installation may be without it."""
    try:
        from bundle.served.runtime import PATIENCE, OnnxClassifier
    except ImportError:
        raise HallmarkError(
            "a proof is checked by running model.onnx: install ONNX Runtime (pip install onnxruntime)"
        ) from None
    return OnnxClassifier(model, threads=threads, device="cpu", seconds=PATIENCE)
