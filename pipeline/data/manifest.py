"""The manifest: what the splits are, image by image, so that others can tell whether they hold the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bundle.digests import canonical_json, write_whole
from bundle.table.outcomes import image_digests
from pipeline.data.leakage import count_leakage
from pipeline.data.split import DataError, ImageSet, Split, load_split
from pipeline.run.records import Manifest, load_record


def build_manifest(
    name: str, image_set: ImageSet, splits: Mapping[str, Split], origins: Mapping[str, str]
) -> dict[str, Any]:
    """Describes the splits train, validation and test; `origins` says of each how it came about.

    Holds `name`, `classes`, `image_shape` [H, W, C], `source`, `licence`, `preprocessing`; `resize` where
    images of any size were taken; `decoding` where they were files; `notRead`, how many files of the folder were left out
    for each reason; in `splits`, for each: `count`, `per_class` (in the order of `classes`), `sha256`
    (split_sha256) and `origin`; `test_images_sha256` (the SHA-256 of each test image's bytes, (H, W, C) in C order); and
    `leakage` (count_leakage). No value depends on where the files lie.
    """
    return {
        "name": name,
        "classes": list(image_set.classes),
        "image_shape": list(splits["train"].images.shape[1:]),
        "source": image_set.source,
        "licence": image_set.licence,
        "preprocessing": image_set.preprocessing,
        **_of_files(image_set),
        "splits": {key: _describe(split, len(image_set.classes), origins[key]) for key, split in splits.items()},
        "test_images_sha256": image_digests(splits["test"].images),
        "leakage": count_leakage(splits),
    }


def _of_files(image_set: ImageSet) -> dict[str, Any]:
    """What is to be said where the images were files."""
    said: dict[str, Any] = {}
    if image_set.resize:
        said["resize"] = dict(image_set.resize)
    if image_set.decoding:
        said["decoding"] = dict(image_set.decoding)
    if image_set.not_read is not None:
        said["notRead"] = [{"reason": reason, "files": files} for reason, files in image_set.not_read.items()]
    return said


def split_sha256(split: Split) -> str:
    """SHA-256 of the images' bytes, uint8 (N, H, W, C) in C order, followed by the labels as little-endian int64."""
    digest = hashlib.sha256(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
    return digest.hexdigest()


def save_manifest(path: str | Path, manifest: dict[str, Any]) -> None:
    """Writes sorted, indented JSON with a newline at its end."""
    write_whole(path, canonical_json(manifest))


def load_manifest(path: str | Path) -> dict[str, Any]:
    """Reads what save_manifest wrote; raises HallmarkError where the file is missing or something else."""
    return load_record(path, Manifest)


def load_described(path: Path, manifest: Mapping[str, Any]) -> Split:
    """The split at `path`, which must be the one that the manifest describes under its name; raises DataError."""
    split = load_split(path)
    if split_sha256(split) != manifest["splits"][path.stem]["sha256"]:
        raise DataError(
            f"{path}: is not the split that manifest.json describes; make both again (`dvc repro --force prepare`)"
        )
    return split


def _describe(split: Split, classes: int, origin: str) -> dict[str, Any]:
    return {
        "count": len(split),
        "per_class": np.bincount(split.labels, minlength=classes).tolist(),
        "sha256": split_sha256(split),
        "origin": origin,
    }
