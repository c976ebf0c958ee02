"""Opened rows of a bundle with private evidence, held against its root, its balls, its table and its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.errors import HallmarkError
from bundle.images import outside
from bundle.layout import OUTCOMES
from bundle.private import CLEAN, DECIMALS, DIGITS, FIELD, image_sets, path_root, row_leaf, salted_digest
from bundle.served.replay import reach
from bundle.table.outcomes import Outcomes, confidences, margins

if TYPE_CHECKING:
    from bundle.served.runtime import OnnxClassifier

#: How far a number may be from one that was rounded to DIGITS significant digits, as a share; and to DECIMALS.
RELATIVE = 0.5 * 10.0 ** (1 - DIGITS)
ABSOLUTE = 0.5 * 10.0**-DECIMALS


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
