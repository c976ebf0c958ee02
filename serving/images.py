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

#: Of a file that is to be resized, before and after; without a rule, only the model's own size is decoded.
PIXELS_LIMIT = 1 << 24


class Picture(NamedTuple):
    """What the model gets: uint8 (H, W, C), and whether the file had another size."""

    pixels: NDArray[np.uint8]
    resized: bool


def read_image(content: bytes, shape: tuple[int, int, int], resize: Mapping[str, Any] | None = None) -> Picture:
    """Decodes an image file as the stage prepare does (bundle.decoding), within limits that are held before it.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C), `resize` the attestation's `data.resize`, which
    says how images of another size are made to fit (see bundle.resizing); without it they are refused.
    Raises Problem where the size is another, or the file one that preparation refuses too.
    """
    if shape[2] not in (1, 3):
        raise Problem("wrong-shape", f"image: this model takes {shape[2]} channels; send an array to /predict_batch.")
    try:
        container = read_container(content)
        _check_size(container, shape, resize)
        image = decode(container, shape[2])
    except ImageFileError as error:
        raise Problem(error.kind, f"image: {error}") from None
    resized = resize is not None and image.size != (shape[1], shape[0])
    if resize is not None and resized:
        image = resize_and_crop(image, shorter_side=resize["shorterSide"], size=(shape[1], shape[0]))
    return Picture(np.asarray(image).reshape(shape), resized)


def _check_size(container: Container, shape: tuple[int, int, int], resize: Mapping[str, Any] | None) -> None:
    """Bounds what decoding may cost, before it begins."""
    wide, high = container.upright
    if resize is None:
        if (wide, high) != (shape[1], shape[0]):
            message = f"image: is {wide} wide and {high} high; this model takes {shape[1]} wide and {shape[0]} high."
            raise Problem("wrong-shape", message)
        return
    width, height = resized_size((wide, high), resize["shorterSide"])
    for pixels, when in ((wide * high, ""), (width * height, " after resizing")):
        if pixels > PIXELS_LIMIT:
            message = f"image: is {wide} wide and {high} high; that is more than {PIXELS_LIMIT} pixels{when}."
            raise Problem("too-large", message)
