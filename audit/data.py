"""A bundle's rows held against the test split that an auditor has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bundle.archives import ArchiveError, open_arrays
from bundle.digests import each_once
from bundle.errors import HallmarkError
from bundle.layout import OUTCOMES
from bundle.outcomes import Outcomes, image_digests

MANIFEST = "manifest.json"
TEST_SPLIT = "test.npz"


class DataError(HallmarkError):
    """The folder is no test split, or a row of the bundle is not in it."""


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
    Raises DataError that names the first row that differs.
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
        raise DataError(f"{folder}: must hold {MANIFEST} or {TEST_SPLIT}, as the stage prepare writes them to out/data")
    return DataCheck(len(outcomes), tuple(files), labels)


def _check_digests(outcomes: Outcomes, known: Sequence[str], source: Path) -> None:
    for row, (index, said) in enumerate(zip(outcomes["index"], outcomes["image_sha256"], strict=True)):
        if index >= len(known):
            raise DataError(f"{OUTCOMES}: row {row} has index {index}, {source} has only {len(known)} images")
        if known[index] != said:
            raise DataError(f"{OUTCOMES}: row {row} (index {index}) is not the image that {source} has there")


def _check_labels(outcomes: Outcomes, known: NDArray[Any], source: Path) -> None:
    for row, (index, said) in enumerate(zip(outcomes["index"], outcomes["label"], strict=True)):
        if known[index] != said:
            raise DataError(f"{OUTCOMES}: row {row} (index {index}) has label {said}, {source} has {known[index]}")


def _manifest_digests(path: Path) -> list[str]:
    try:
        digests: Any = json.loads(path.read_bytes(), object_pairs_hook=each_once)["test_images_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        digests = None
    if not isinstance(digests, list):
        raise DataError(f"{path}: is not a manifest with a list test_images_sha256")
    return cast("list[str]", digests)


def read_split(path: Path) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """The images uint8 (N, H, W, C) and labels (N,) of a test.npz; raises DataError where it is no such file."""
    try:
        with open_arrays(path) as archive:
            images, labels = archive.read("images"), archive.read("labels")
    except ArchiveError:
        raise DataError(f"{path}: is not an npz archive with images and labels") from None
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{path}: must hold images uint8 (N, H, W, C) and labels (N,), holds {images.shape} {labels.shape}"
        )
    return images, labels
