"""The manifest: what the splits are, image by image, so that others can tell whether they hold the same; and what leaked.

Leakage: copies, pictures that are nearly the same, and one picture under two labels. Copies that are not equal are found
by pHash: 64 bits of a picture that re-encoding and resizing leave nearly as they are. After Krawetz 2011 ("Looks Like
It", the Hacker Factor Blog) and the library imagehash, here for many images at once: the 8 x 8 lowest frequencies of the
discrete cosine transform of the grey picture, each against their median.

Measured on CIFAR-10: of test images saved again as JPEG (quality 75) or resized to half and back, 99 % stay within
DISTANCE of themselves; of all pairs of the 60,000 images 165 are within it, all of one class. Handwritten digits of
8 x 8 pixels resemble each other: of 359 test images one is within it of a training image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from bundle.digests import canonical_json, write_whole
from bundle.table.outcomes import image_digests
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


#: What is held out, and the splits that must not have its images: those that are trained or chosen on.
HELD_OUT = {"test": ("train", "validation"), "validation": ("train",)}


def count_leakage(splits: Mapping[str, Split]) -> dict[str, Any]:
    """The manifest's `leakage`, counts of images; a split that is absent or empty is not spoken of.

    `test_images_also_in_train` and `validation_images_also_in_train`: byte for byte in a split that is trained or chosen
    on. `…_images_near_train`: further ones whose perceptual hash is within 2 bits of one there; absent for images of
    less than 8 pixels a side, which have no such hash. `repeated`: by split, images that are in it before.
    `two_labels`: by split, images whose very picture has another label somewhere in the splits.
    """
    there = {name: split for name, split in splits.items() if len(split)}
    digests = {name: np.array(image_digests(split.images)) for name, split in there.items()}
    hashable = all(min(split.images.shape[1:3]) >= SIDE for split in there.values())
    hashes = {name: perceptual_hashes(split.images) for name, split in there.items()} if hashable else {}
    found: dict[str, Any] = {}
    for name, places in HELD_OUT.items():
        places = [place for place in places if place in there]
        if name in there and places:
            copies = np.isin(digests[name], np.concatenate([digests[place] for place in places]))
            found[f"{name}_images_also_in_train"] = int(copies.sum())
            if hashes:
                alike = near(hashes[name], np.concatenate([hashes[place].compressed() for place in places]))
                found[f"{name}_images_near_train"] = int((alike & ~copies).sum())
    repeated = {name: len(of_split) - len(np.unique(of_split)) for name, of_split in digests.items()}
    return {**found, "repeated": repeated, "two_labels": _two_labels(there, digests)}


def _two_labels(splits: Mapping[str, Split], digests: Mapping[str, NDArray[np.str_]]) -> dict[str, int]:
    labels = np.concatenate([split.labels for split in splits.values()])
    _, picture = np.unique(np.concatenate([*digests.values()]), return_inverse=True)
    lowest, highest = np.full(picture.max() + 1, labels.max()), np.zeros(picture.max() + 1, labels.dtype)
    np.minimum.at(lowest, picture, labels)
    np.maximum.at(highest, picture, labels)
    torn = (lowest != highest)[picture]
    ends = np.cumsum([len(split) for split in splits.values()])
    return {name: int(part.sum()) for name, part in zip(splits, np.split(torn, ends[:-1]), strict=True)}


Hashes: TypeAlias = "np.ma.MaskedArray[tuple[int], np.dtype[np.uint64]]"

#: Frequencies a side, and the largest number of differing bits at which two pictures count as nearly the same.
SIDE, DISTANCE = 8, 2
#: ITU-R 601-2, as Pillow makes grey.
LUMA = (0.299, 0.587, 0.114)
#: Pixels that are transformed at once.
CHUNK = 2**23
#: Equal or opposite halves of a picture cancel exactly, and must do so on every processor.
DECIMALS = 6
#: Bits 0, 3, 6 and so on; 1, 4, 7; 2, 5, 8. Of hashes that differ in DISTANCE bits, one of these parts is equal.
PARTS = [np.uint64(sum(1 << bit for bit in range(part, SIDE**2, DISTANCE + 1))) for part in range(DISTANCE + 1)]


def perceptual_hashes(images: NDArray[np.uint8]) -> Hashes:
    """The hash of each image, uint64 (N,), masked where there is none: for a picture of one colour.

    `images`: uint8 (N, H, W, 1 or 3) with H and W from 8 on.
    """
    hashes, textured = np.zeros(len(images), np.uint64), np.zeros(len(images), np.bool_)
    rows = max(1, CHUNK // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        low = _low_frequencies(images[part])
        bits = low > np.median(low, axis=1, keepdims=True)
        hashes[part] = np.packbits(bits, axis=1).view(">u8").ravel()
        textured[part] = low[:, 1:].any(axis=1)
    return np.ma.masked_array(hashes, ~textured)


def near(hashes: Hashes, others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `hashes` are within DISTANCE bits of one of `others`, bool (N,); what has no hash is near nothing.

    Only hashes with an equal part are compared, so that the time grows like that of sorting, not like all pairs.
    """
    wanted, where = np.unique(hashes.data, return_inverse=True)
    known, found = np.unique(others), np.zeros(len(wanted), np.bool_)
    for part in PARTS:
        bucketed = known[np.argsort(known & part, kind="stable")]
        first, last = (np.searchsorted(bucketed & part, wanted & part, side) for side in ("left", "right"))
        for step in range(int((last - first).max(initial=0))):
            rows = np.flatnonzero((first + step < last) & ~found)
            found[rows] = np.bitwise_count(wanted[rows] ^ bucketed[first[rows] + step]) <= DISTANCE
    return found[where] & ~np.ma.getmaskarray(hashes)


def _low_frequencies(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The 8 x 8 lowest frequencies of each grey image, (N, 64), the mean first."""
    grey = images[..., 0].astype(np.float64) if images.shape[3] == 1 else images @ np.array(LUMA, np.float64)
    along, across = (
        np.asarray(dct(np.eye(side), axis=0, norm="ortho"), np.float64)[:SIDE] for side in images.shape[1:3]
    )
    return np.round(along @ grey @ across.T, DECIMALS).reshape(len(images), -1)
