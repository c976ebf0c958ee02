"""What a source gives: both splits, the class names, and what is to be said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.split import Split, stratified
from pipeline.params import DataSettings


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set before limits and validation; the sentences go into the manifest and name no path.

    train, test: the splits, their labels index `classes`. source: where the images come from. licence: "unknown" where
    nobody says. preprocessing: what was done to the pixels, None for nothing. *_origin: how each split came about.
    resize: the rule by which images of any size were brought to that of the data (pipeline.data.decoding), None where
    all of them have it. decoding: the rule by which files became pixels (bundle.decoding), None where they came as arrays.
    validation: None where the data has no such split of its own. not_read: how many files were left out, by reason; None
    where the source is no folder of images.
    """

    train: Split
    test: Split
    classes: list[str]
    source: str
    licence: str
    preprocessing: str | None
    train_origin: str = "official training split"
    test_origin: str = "official test split"
    resize: Mapping[str, Any] | None = None
    decoding: Mapping[str, Any] | None = None
    validation: Split | None = None
    validation_origin: str = "official validation split"
    not_read: Mapping[str, int] | None = None


def hold_out_test(images: Split, settings: DataSettings) -> tuple[Split, Split, str, str]:
    """Splits images that have no test split of their own: train, test, and how each came about."""
    share = f"share {settings.test_share}, stratified, seed {settings.seed}"
    test = stratified(images.labels, settings.test_share, settings.seed)
    return (
        images.leave(test),
        images.take(test),
        f"all but the test split ({share})",
        f"held out of all images: {share}",
    )
