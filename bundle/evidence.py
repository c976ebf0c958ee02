"""The images of a bundle: read, and held against the outcome table and the balls that attacks may search."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.layout import IMAGES, OUTCOMES
from bundle.outcomes import Outcomes, image_digests
from bundle.private import CLEAN, image_sets
from bundle.threats import Threat

#: Room for the header of a .npy file, and bytes of a value of the widest type that is worth a better message.
HEADER_BYTES, WIDEST = 4096, 8


class EvidenceError(HallmarkError):
    """The images are not those of the outcome table, or leave their balls; the message names the row."""


def read_images(content: bytes, shape: tuple[int, ...]) -> dict[str, NDArray[np.uint8]]:
    """The arrays of an images.npz by name.

    Raises EvidenceError where it is no archive of arrays, each there once, or where one unpacks to far more than an array
    of `shape`, (N, H, W, C), can take: the file may be a stranger's.
    """
    most = HEADER_BYTES + WIDEST * math.prod(shape)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if large := next((member.filename for member in archive.infolist() if member.file_size > most), None):
                raise EvidenceError(f"{IMAGES}: {large} unpacks to more than uint8 {shape} can take")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            images = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise EvidenceError(f"{IMAGES}: not a readable npz archive ({error})") from None
    if sorted(names) != sorted(f"{name}.npy" for name in images):
        raise EvidenceError(f"{IMAGES}: must hold every array once, and nothing but arrays")
    return images


def check_images(outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]], predicate: Mapping[str, Any]) -> None:
    """Raises EvidenceError where images are missing, of another shape, not the table's, or outside their ball."""
    expected = set(image_sets(predicate))
    if set(images) != expected:
        wrong = f"must hold exactly {', '.join(sorted(expected))}, holds {', '.join(sorted(images))}"
        raise EvidenceError(f"{IMAGES}: {wrong}")
    shape = (len(outcomes), *predicate["data"]["shape"])
    for name, array in images.items():
        if array.dtype != np.uint8 or array.shape != shape:
            raise EvidenceError(f"{IMAGES}: {name} must be uint8 {shape}, is {array.dtype} {array.shape}")
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
