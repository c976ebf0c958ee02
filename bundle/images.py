"""The images of a bundle: read, and held against the outcome table and the balls that attacks may search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.formats.archives import Archive, ArchiveError, open_arrays
from bundle.layout import IMAGES, OUTCOMES, check_sets
from bundle.private import CLEAN
from bundle.table.outcomes import Outcomes, image_digests
from bundle.table.threats import Threat

#: Characters of a list of names in a message.
LISTED = 400


class EvidenceError(HallmarkError):
    """The images are not those of the outcome table, or leave their balls; the message names the row."""


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
