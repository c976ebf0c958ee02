"""What the outcome table and the images of a bundle must be, given what its predicate says was evaluated.

The rows: complete, in range, without contradictions. The images: read, those of the table, inside their balls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.formats.archives import Archive, ArchiveError, open_arrays
from bundle.layout import IMAGES, OUTCOMES, check_sets
from bundle.numbers.proofs import certified_radii, check_proofs
from bundle.private import CLEAN
from bundle.table.columns import expected_columns
from bundle.table.outcomes import OutcomeError, Outcomes, distance_column, image_digests
from bundle.table.threats import Threat

#: Characters of a list of names in a message.
LISTED = 400


class EvidenceError(HallmarkError):
    """The images are not those of the outcome table, or leave their balls; the message names the row."""


def check_rows(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    """Raises OutcomeError that names the column whose rows cannot be: too few, out of range, or contradicting others."""
    _check_columns(outcomes, predicate)
    index, size = outcomes["index"], predicate["sample"]["size"]
    if len(outcomes) != size:
        raise OutcomeError(f"has {len(outcomes)} rows, the sample should have {size}")
    if len(np.unique(index)) != len(index) or index.min() < 0:
        raise OutcomeError("index must be 0 or more and name every image once")
    _check_ranges(outcomes, len(predicate["data"]["classes"]))
    for item in predicate["smoothing"]:
        _check_smoothing(outcomes, item)
    for item in predicate["distances"]:
        _check_distances(outcomes, distance_column(item["name"]))
    for contradiction in outcomes.contradictions():
        raise OutcomeError(contradiction)
    check_proofs(outcomes, predicate)
    if predicate["surface"] is not None:
        for row in sorted(set(predicate["surface"]["rows"]) - set(index.tolist())):
            raise OutcomeError(f"has no index {row}, of which the attestation's surface is")


def _check_columns(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    expected = Counter(expected_columns(predicate))
    for name, count in expected.items():
        if count > 1:
            raise OutcomeError(f"column {name}: would be of two things that the attestation names")
        outcomes[name]  # raises where the table lacks it
    for name in outcomes.columns:
        if name not in expected:
            raise OutcomeError(f"column {name}: the attestation names nothing that it would be of")


def _check_ranges(outcomes: Outcomes, classes: int) -> None:
    for name, values in outcomes.columns.items():
        part = name.rsplit("/", 1)[-1]
        if part in ("label", "prediction") and (values.min() < 0 or values.max() >= classes):
            raise OutcomeError(f"{name} must be 0 to {classes - 1}, as there are {classes} classes")
        if part == "confidence" and not np.all((values >= 0) & (values <= 1)):
            raise OutcomeError(f"{name} must be 0 to 1, as it is a probability")


def _check_smoothing(outcomes: Outcomes, item: Mapping[str, Any]) -> None:
    name, samples = item["name"], item["estimation"]
    successes = outcomes[f"{name}/successes"]
    if successes.min() < 0 or successes.max() > samples:
        raise OutcomeError(f"{name}/successes must be 0 to {samples}")


def check_radii(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    """Raises OutcomeError where a smoothed classifier's radii are not those that its counts prove."""
    for item in predicate["smoothing"]:
        successes, radii = outcomes[f"{item['name']}/successes"], outcomes[f"{item['name']}/radius"]
        proved = certified_radii(successes, item["estimation"], item["sigma"], item["alpha"])
        if not np.allclose(radii, proved, atol=1e-9):
            raise OutcomeError(f"{item['name']}/radius is not what the counts prove")


def _check_distances(outcomes: Outcomes, name: str) -> None:
    if not np.all(outcomes[name] >= 0):  # a NaN is refused too
        raise OutcomeError(f"{name} must be 0 or more, or infinite where nothing was found")


def read_images(content: bytes, shape: tuple[int, ...], names: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """The arrays of an images.npz by name.

    Raises EvidenceError where it is no archive of exactly these arrays, each there once and uint8 of `shape`,
    (N, H, W, C), or where they would take more than bundle.layout says. Both are seen before an array is unpacked: the
    file may be a stranger's.
    """
    try:
        check_sets(len(names), shape)
    except HallmarkError as error:
        raise EvidenceError(str(error)) from None
    try:
        with open_arrays(content, len(names)) as archive:
            _check_layout(archive, shape, names)
            return {name: archive.read(name) for name in archive.names}
    except ArchiveError as error:
        raise EvidenceError(f"{IMAGES}: {error}") from None


def _check_layout(archive: Archive, shape: tuple[int, ...], names: Sequence[str]) -> None:
    if sorted(archive.names) != sorted(names):
        raise EvidenceError(f"{IMAGES}: must hold exactly {_listed(names)}, holds {_listed(archive.names)}")
    for name in archive.names:
        kind, found = archive.layout(name)
        if kind != np.uint8 or found != shape:
            raise EvidenceError(f"{IMAGES}: {name} must be uint8 {shape}, is {kind} {found}")


def _listed(names: Sequence[str]) -> str:
    return shorten(", ".join(sorted(names)), LISTED, placeholder=" …")


def check_images(outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]], predicate: Mapping[str, Any]) -> None:
    """Raises EvidenceError where images of read_images() are not the table's, or outside their ball."""
    for row, (found, said) in enumerate(zip(image_digests(images[CLEAN]), outcomes["image_sha256"], strict=True)):
        if found != said:
            raise EvidenceError(f"{IMAGES}: clean row {row} is not the image that {OUTCOMES} describes")
    for name, row in outside(images, predicate):
        raise EvidenceError(f"{IMAGES}: {name} row {row} lies outside its ball")


def outside(images: Mapping[str, NDArray[np.uint8]], predicate: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The first image of each attack that lies outside its ball around the clean one: the set's name, and the place.

    `images` are those of image_sets(), uint8 (N, H, W, C).
    """
    threats = {item["name"]: Threat.of(item) for item in predicate["threats"]}
    found: list[tuple[str, int]] = []
    for item in predicate["attacks"]:
        name = f"{item['threat']}/{item['name']}"
        places = np.flatnonzero(~threats[item["threat"]].inside(images[CLEAN], images[name]))
        found += [(name, int(place)) for place in places[:1]]
    return found
