"""What the splits share: copies, pictures that are nearly the same, and one picture under two labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import image_digests
from pipeline.data.perceptual_hash import SIDE, near, perceptual_hashes
from pipeline.data.split import Split

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
