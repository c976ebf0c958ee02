"""The sources by name: digits, the CIFAR sets, Tiny ImageNet, any image folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

from pipeline.data.image_folder import read_image_folder
from pipeline.data.image_set import ImageSet, hold_out_test
from pipeline.data.split import DataError, Split
from pipeline.data.tiny_imagenet import read_tiny_imagenet
from pipeline.params import DataSettings


def read_source(settings: DataSettings) -> ImageSet:
    """Reads the data set that `settings.name` says, whole; raises DataError where it is not there or not usable."""
    return SOURCES[settings.name](settings)


def read_digits(settings: DataSettings) -> ImageSet:
    """The 1,797 handwritten digits that scikit-learn carries, 8 x 8 pixels, one channel.

    Their values 0 to 16 become round(v * 255 / 16), which is exact to invert: v = round(u * 16 / 255).
    """
    values, labels = load_digits(return_X_y=True)
    images = np.rint(np.reshape(values, (-1, 8, 8, 1)) * 255 / 16).astype(np.uint8)
    whole = Split(images, np.asarray(labels, dtype=np.int64))
    train, test, train_origin, test_origin = hold_out_test(whole, settings)
    return ImageSet(
        train=train,
        test=test,
        classes=[str(digit) for digit in range(10)],
        source="Optical Recognition of Handwritten Digits (UCI), the copy in scikit-learn",
        licence="CC BY 4.0",
        preprocessing="values 0 to 16 times 255 / 16, rounded",
        train_origin=train_origin,
        test_origin=test_origin,
    )


def read_cifar10(settings: DataSettings) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 images, 32 x 32 pixels, RGB."""
    return _read_cifar(CIFAR10, settings, "CIFAR-10 (Krizhevsky 2009), the Python version")


def read_cifar100(settings: DataSettings) -> ImageSet:
    """CIFAR-100 (Krizhevsky 2009) with its fine labels: 50,000 and 10,000 images, 32 x 32 pixels, RGB."""
    return _read_cifar(CIFAR100, settings, "CIFAR-100 (Krizhevsky 2009), the Python version, fine labels")


def _read_cifar(dataset: type[CIFAR10], settings: DataSettings, source: str) -> ImageSet:
    folder = Path(settings.path).expanduser()
    folder = folder.parent if folder.name == dataset.base_folder else folder
    train, test = _open_cifar(dataset, folder, train=True), _open_cifar(dataset, folder, train=False)
    return ImageSet(
        train=_cifar_split(train),
        test=_cifar_split(test),
        classes=list(train.classes),
        source=source,
        licence="not stated by the authors",
        preprocessing=None,
    )


def _open_cifar(dataset: type[CIFAR10], folder: Path, *, train: bool) -> CIFAR10:
    """Uses the files that are there, or downloads them; torchvision checks every file's MD5 before it unpickles it."""
    there = folder / dataset.base_folder
    download = not there.exists()
    try:
        return dataset(folder, train=train, download=download)
    except (RuntimeError, OSError) as error:
        if not download:
            raise DataError(
                f"{there}: files are missing or differ from the published ones (MD5); remove the folder and it is "
                f"downloaded again, or unpack {dataset.filename} once more"
            ) from None
        raise DataError(
            f"{there}: is not there and cannot be downloaded ({' '.join(str(error).split())}); unpack {dataset.url} so "
            f"that {folder} holds the folder {dataset.base_folder}, or set data.path to the folder that holds it"
        ) from None


def _cifar_split(dataset: CIFAR10) -> Split:
    return Split(np.ascontiguousarray(dataset.data), np.array(dataset.targets, dtype=np.int64))


SOURCES: dict[str, Callable[[DataSettings], ImageSet]] = {
    "digits": read_digits,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "tiny_imagenet": read_tiny_imagenet,
    "folder": read_image_folder,
}
