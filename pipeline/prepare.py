"""Stage prepare: images to out/data (train.npz, validation.npz, test.npz, manifest.json).

Three splits from a source, with additional or generated training images from one npz file below data.path.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.digests import sha256_file
from bundle.formats.archives import ArchiveError, open_arrays
from bundle.leakage import leakage_sentence
from bundle.table.outcomes import image_digests
from pipeline.data.manifest import build_manifest, save_manifest
from pipeline.data.sources import read_source
from pipeline.data.split import DataError, ImageSet, Split, save_split, stratified
from pipeline.params import DataSettings, Params
from pipeline.run.records import OUT, Folders
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT, *, training: bool = True) -> None:
    """Writes the splits and says what they are: three lines, and further ones for files not read and extra images.

    Without `training` test images alone are enough.
    """
    manifest = prepare_data(params.data, folders.data, training=training)
    counts = ", ".join(f"{split['count']} {name}" for name, split in manifest["splits"].items())
    shape = " x ".join(str(length) for length in manifest["image_shape"])
    print(f"{manifest['name']}: {counts} images in {folders.data}")
    print(f"{shape} (H x W x C), {len(manifest['classes'])} classes")
    print(leakage_sentence(manifest["leakage"]))
    if not_read := manifest.get("notRead"):
        print("files that are not read: " + ", ".join(f"{item['files']} ({item['reason']})" for item in not_read))
    if extra := manifest.get("extra"):
        print(f"{extra['images']} of the training images are extra: {extra['share']:.0%} of every batch")


def prepare_data(settings: DataSettings, out: Path, *, training: bool = True) -> dict[str, Any]:
    """Writes train.npz, validation.npz, test.npz and manifest.json to `out`; returns the manifest.

    The limits (train_images, test_images) are drawn first, then the validation split out of what is left to train on,
    unless the source has one, all stratified with `settings.seed`; the images of data.extra follow the training split's
    own, and the manifest then says so in `extra` and in `splits.train.own`. Equal settings and images give equal bytes.
    Raises DataError.

    Without `training` a source may have test images alone, and no class needs training images: nothing is trained.
    """
    image_set = _named(read_source(settings), settings)
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
    if settings.title is not None:
        manifest["title"] = settings.title
    if extra:
        manifest["extra"] = extra
        manifest["splits"]["train"]["own"] = len(own)
    for name, split in splits.items():
        save_split(out / f"{name}.npz", split)
    save_manifest(out / "manifest.json", manifest)
    return manifest


def _named(image_set: ImageSet, settings: DataSettings) -> ImageSet:
    """With the source and the licence that the settings give, where they give one."""
    given = {"source": settings.source, "licence": settings.licence}
    return replace(image_set, **{field: words for field, words in given.items() if words is not None})


def _told(settings: DataSettings) -> dict[str, Any]:
    """The settings but `path`, which says nothing about the images and may name a person, and what is not used."""
    unused = [{"extra", "extra_share"}] * (settings.extra is None) + [{"test_folder"}] * (settings.test_folder is None)
    unnamed = {field for field in ("title", "source", "licence") if getattr(settings, field) is None}
    return settings.model_dump(exclude={"path"}.union(unnamed, *unused))


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
    """What is left, the validation split, and what is to be said about each: the source's own, or a held out fraction."""
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


#: What an archive's table says of an array: the kind of its values, and its shape.
Layout = tuple[np.dtype[Any], tuple[int, ...]]


def add_extra(
    train: Split, settings: DataSettings, classes: int, held_out: Mapping[str, Split]
) -> tuple[Split, dict[str, Any]]:
    """The training split with the images of data.extra after its own, and what the manifest says about them.

    That is `images` (their number), `per_class`, `share` (of every batch) and `file_sha256`. `held_out` holds the
    splits, by name, that no extra image may be in. Raises DataError where the file is missing or not usable.
    """
    path = _path(settings)
    images, labels = _arrays(path, train.images.shape[1:])
    _check_labels(path, labels, classes)
    _refuse_copies(path, images, held_out)
    declared = {
        "images": len(images),
        "per_class": np.bincount(labels.astype(np.int64), minlength=classes).tolist(),
        "share": settings.extra_share,
        "file_sha256": sha256_file(path),
    }
    return _joined(train, images, labels), declared


def _path(settings: DataSettings) -> Path:
    name = PurePath(settings.extra or "")
    if name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"data.extra: must be the path of a file below data.path, without .., got {settings.extra!r}; DVC watches "
            "data.path alone, and would not see another file change"
        )
    return Path(settings.path).expanduser() / name


def _arrays(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Both arrays as they are, of images of this shape; nothing is unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.extra must name an npz file below data.path")
    try:
        with open_arrays(path) as archive:
            if not {"images", "labels"} <= set(archive.names):
                raise DataError(
                    f"{path}: must hold the arrays images and labels, as numpy.savez(file, images=…, labels=…) writes them, "
                    f"holds {', '.join(archive.names[:10]) or 'nothing'}"
                )
            _check_layout(path, archive.layout("images"), archive.layout("labels"), shape)
            return archive.read("images"), archive.read("labels")
    except ArchiveError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); data.extra must be a file of numpy.savez with the plain arrays images "
            "and labels"
        ) from None


def _check_layout(path: Path, images: Layout, labels: Layout, shape: tuple[int, ...]) -> None:
    """Kinds and shapes, before an array is unpacked: the file may be a stranger's."""
    (kind, size), (label_kind, label_size) = images, labels
    if kind != np.uint8 or size[1:] != shape or size[:1] in ((), (0,)):
        raise DataError(
            f"{path}: images must be uint8 (N, {', '.join(map(str, shape))}) with N ≥ 1, like the other training images, "
            f"got {kind} {size}"
        )
    if label_kind.kind not in "iu" or label_size != size[:1]:
        raise DataError(
            f"{path}: labels must be whole numbers ({size[0]},), one per image, got {label_kind} {label_size}"
        )
    if math.prod(size) > _memory():
        raise DataError(f"{path}: its images take {math.prod(size)} bytes, more than this machine's memory")


def _memory() -> int:
    """Bytes of this machine's memory, where the system tells."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize


def _check_labels(path: Path, labels: NDArray[Any], classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{path}: labels must be 0 to {classes - 1}, the data set's classes, got {labels.min()} to {labels.max()}"
        )


def _refuse_copies(path: Path, images: NDArray[np.uint8], held_out: Mapping[str, Split]) -> None:
    """What is trained on must not be measured on."""
    known = {name: set(image_digests(split.images)) for name, split in held_out.items()}
    digests = image_digests(images)
    found = {name: sum(digest in copies for digest in digests) for name, copies in known.items()}
    if any(found.values()):
        said = " and ".join(f"{count} of its images are in the {name} split" for name, count in found.items() if count)
        raise DataError(f"{path}: {said}, byte for byte; remove them, because nothing held out may be trained on")


def _joined(train: Split, images: NDArray[np.uint8], labels: NDArray[Any]) -> Split:
    return Split(np.concatenate([train.images, images]), np.concatenate([train.labels, labels.astype(np.int64)]))


if __name__ == "__main__":
    stage("prepare", main)
