"""From settings to the files of out/data: three splits and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.extra import add_extra
from pipeline.data.manifest import build_manifest, save_manifest
from pipeline.data.sources import read_source
from pipeline.data.split import DataError, ImageSet, Split, save_split, stratified
from pipeline.params import DataSettings


def prepare_data(settings: DataSettings, out: Path, *, training: bool = True) -> dict[str, Any]:
    """Writes train.npz, validation.npz, test.npz and manifest.json to `out`; returns the manifest.

    The limits (train_images, test_images) are drawn first, then the validation split out of what is left to train on,
    unless the source has one, all stratified with `settings.seed`; the images of data.extra follow the training split's
    own, and the manifest then says so in `extra` and in `splits.train.own`. Equal settings and images give equal bytes.
    Raises DataError.

    Without `training` a source may have test images alone, and no class needs training images: nothing is trained.
    """
    image_set = read_source(settings)
    if len(image_set.train) == 0:
        splits, origins = _without_training(image_set, settings, training=training)
    else:
        splits, origins = _split(image_set, settings)
        if training:
            _require_every_class(splits["train"], image_set)
    own, extra = splits["train"], None
    if settings.extra is not None:
        # All of the source's test images, whatever the limit: the others may be tested on later.
        held_out = {"test": image_set.test, "validation": splits["validation"]}
        splits["train"], extra = add_extra(own, settings, len(image_set.classes), held_out)
        origins["train"] += f"; then {extra['images']} images of data.extra"
    manifest = build_manifest(settings.name, image_set, splits, origins)
    manifest["settings"] = _told(settings)
    if extra:
        manifest["extra"] = extra
        manifest["splits"]["train"]["own"] = len(own)
    for name, split in splits.items():
        save_split(out / f"{name}.npz", split)
    save_manifest(out / "manifest.json", manifest)
    return manifest


def _told(settings: DataSettings) -> dict[str, Any]:
    """The settings but `path`, which says nothing about the images and may name a person, and what is not used."""
    unused = [{"extra", "extra_share"}] * (settings.extra is None) + [{"test_folder"}] * (settings.test_folder is None)
    return settings.model_dump(exclude={"path"}.union(*unused))


def _split(image_set: ImageSet, settings: DataSettings) -> tuple[dict[str, Split], dict[str, str]]:
    """The three splits, and of each how it came about."""
    whole, train_origin = _limited(image_set.train, settings.train_images, "train_images", settings.seed)
    test, test_origin = _limited(image_set.test, settings.test_images, "test_images", settings.seed)
    train, validation, left_out, validation_origin = _validation(whole, image_set, settings)
    splits = {"train": train, "validation": validation, "test": test}
    origins = {
        "train": image_set.train_origin + train_origin + left_out,
        "validation": validation_origin,
        "test": image_set.test_origin + test_origin,
    }
    return splits, origins


def _validation(
    whole: Split, image_set: ImageSet, settings: DataSettings, of: str = "training"
) -> tuple[Split, Split, str, str]:
    """What is left, the validation split, and what is to be said about each: the source's own, or a held out share."""
    if image_set.validation is not None:
        return whole, image_set.validation, "", image_set.validation_origin
    held_out = stratified(whole.labels, settings.validation_share, settings.seed)
    share = f"share {settings.validation_share}, stratified, seed {settings.seed}"
    return (
        whole.leave(held_out),
        whole.take(held_out),
        f"; the validation split is left out ({share})",
        f"held out of the {of} images: {share}",
    )


def _without_training(
    image_set: ImageSet, settings: DataSettings, *, training: bool
) -> tuple[dict[str, Split], dict[str, str]]:
    """The same of a source that has test images alone: what is looked at before the attacks is held out of them."""
    if training:
        raise DataError(
            "data: there are test images and none to train on; give both, or measure a model that was trained elsewhere "
            "(make evaluate), for which test images alone are enough"
        )
    whole, origin = _limited(image_set.test, settings.test_images, "test_images", settings.seed)
    test, validation, left_out, validation_origin = _validation(whole, image_set, settings, "test")
    splits = {"train": image_set.train, "validation": validation, "test": test}
    origins = {
        "train": image_set.train_origin,
        "validation": validation_origin,
        "test": image_set.test_origin + origin + left_out,
    }
    return splits, origins


def _limited(split: Split, limit: int | None, field: str, seed: int) -> tuple[Split, str]:
    if limit is None:
        return split, ""
    if limit > len(split):
        raise DataError(f"data.{field}: must be at most {len(split)}, as many as there are, got {limit}")
    return split.take(stratified(split.labels, limit, seed)), f"; {limit} of {len(split)} kept, stratified, seed {seed}"


def _require_every_class(train: Split, image_set: ImageSet) -> None:
    counts = np.bincount(train.labels, minlength=len(image_set.classes))
    if missing := [name for name, count in zip(image_set.classes, counts, strict=True) if count == 0]:
        raise DataError(
            f"data: no training image is left of class {', '.join(missing)}; raise data.train_images, lower the shares "
            "that are held out, or give these classes more images"
        )
