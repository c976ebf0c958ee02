"""One image file to the uint8 array that the model takes, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.containers import Container, ImageFileError, read_container
from bundle.decoding import decode
from bundle.resizing import resize_and_crop, resized_size
from serving.problems import Problem

#: Files that are resized may have so many times the model's pixels: a phone's photo for a model of 224 by 224 ...
TIMES = 256
#: ... but never fewer than one picture costs nobody a noticeable wait, nor more than this (as resized, too).
LEAST_PIXELS, MOST_PIXELS = 1 << 20, 1 << 24


class Picture(NamedTuple):
    """What the model gets: uint8 (H, W, C), and whether the file had another size."""

    pixels: NDArray[np.uint8]
    resized: bool


def pixels_limit(shape: tuple[int, int, int]) -> int:
    """The most pixels of a file that is to be resized for a model of (H, W, C), where no setting says it."""
    return min(max(TIMES * shape[0] * shape[1], LEAST_PIXELS), MOST_PIXELS)


def read_image(
    content: bytes, shape: tuple[int, int, int], resize: Mapping[str, Any] | None = None, limit: int = 0
) -> Picture:
    """Decodes an image file as the stage prepare does (bundle.decoding), within limits that are held before it.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C), `resize` the attestation's `data.resize`, which
    says how images of another size are made to fit (see bundle.resizing); without it they are refused. `limit` is the most
    pixels before and after resizing; 0 for pixels_limit().
    Raises Problem where the size is another, or the file one that preparation refuses too.
    """
    return decode_image(inspect(content, shape, resize, limit), shape, resize)


def inspect(
    content: bytes, shape: tuple[int, int, int], resize: Mapping[str, Any] | None = None, limit: int = 0
) -> Container:
    """The first half of read_image(): what a file's headers say, where that is within the limits."""
    if shape[2] not in (1, 3):
        raise Problem("wrong-shape", f"image: this model takes {shape[2]} channels; send an array to /predict_batch.")
    try:
        container = read_container(content)
    except ImageFileError as error:
        raise Problem(error.kind, f"image: {error}") from None
    _check_size(container, shape, resize, limit or pixels_limit(shape))
    return container


def decode_image(container: Container, shape: tuple[int, int, int], resize: Mapping[str, Any] | None) -> Picture:
    """The second half of read_image(), whose cost grows with largest()."""
    try:
        image = decode(container, shape[2])
    except ImageFileError as error:
        raise Problem(error.kind, f"image: {error}") from None
    resized = resize is not None and image.size != (shape[1], shape[0])
    if resize is not None and resized:
        image = resize_and_crop(image, shorter_side=resize["shorterSide"], size=(shape[1], shape[0]))
    return Picture(np.asarray(image).reshape(shape), resized)


def largest(container: Container, resize: Mapping[str, Any] | None) -> int:
    """The pixels of a picture before or after it is resized, whichever are more."""
    return max(pixels for pixels, _ in _sizes(container, resize))


def _sizes(container: Container, resize: Mapping[str, Any] | None) -> list[tuple[int, str]]:
    wide, high = container.upright
    if resize is None:
        return [(wide * high, "")]
    width, height = resized_size((wide, high), resize["shorterSide"])
    return [(wide * high, ""), (width * height, " after resizing")]


def _check_size(
    container: Container, shape: tuple[int, int, int], resize: Mapping[str, Any] | None, limit: int
) -> None:
    """Bounds what decoding may cost, before it begins."""
    wide, high = container.upright
    if resize is None and (wide, high) != (shape[1], shape[0]):
        message = f"image: is {wide} wide and {high} high; this model takes {shape[1]} wide and {shape[0]} high."
        raise Problem("wrong-shape", message)
    for pixels, when in _sizes(container, resize) if resize is not None else []:
        if pixels > limit:
            message = (
                f"image: is {wide} wide and {high} high; that is more than {limit} pixels{when}; send a smaller one."
            )
            raise Problem("too-large", message)
