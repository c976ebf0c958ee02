"""One image file to the uint8 array that the model takes, or a sentence that says why not.

A .npy file to the uint8 rows that the model takes; its header is judged before its data is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bundle.images.container import Container, ImageFileError
from bundle.images.decoding import decode, read_container, resize_and_crop, resized_size
from serving.exchange import Problem

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
    """Decodes an image file as the stage prepare does (bundle.images.decoding), within limits that are held before it.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C), `resize` the attestation's `data.resize`, which
    says how images of another size are made to fit (see served.decoding); without it they are refused. `limit` is the most
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


#: Room for magic, version and header of a .npy file.
HEADER_BYTES = 4096
#: No side of an array is longer.
MOST = (1 << 63) - 1


def read_rows(content: bytes, shape: tuple[int, int, int], limit: int) -> NDArray[np.uint8]:
    """Reads a .npy file of images.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C), `limit` the largest number of rows.
    Returns uint8 (N, H, W, C), 1 ≤ N ≤ limit. Never unpickles. Raises Problem where it is anything else.
    """
    said, fortran, dtype, start = _header(content)
    wanted = f"(N, {', '.join(map(str, shape))})"
    if dtype != np.uint8:
        raise Problem("wrong-pixels", f"images: is of type {dtype}; send uint8, levels 0 to 255.")
    if len(said) != 4 or said[1:] != shape:
        raise Problem("wrong-shape", f"images: has the shape {said}; this model takes {wanted}.")
    if said[0] < 1:
        raise Problem("wrong-shape", "images: has no rows; send at least one.")
    if said[0] > limit:
        raise Problem("too-large", f"images: has {said[0]} rows, at most {limit} are taken; send several requests.")
    size = math.prod(said)
    if len(content) - start != size:
        message = f"images: has {len(content) - start} bytes of data where its shape needs {size}; send the whole file."
        raise Problem("broken-file", message)
    rows = np.frombuffer(content, np.uint8, size, start).reshape(said, order="F" if fortran else "C")
    return np.ascontiguousarray(rows)


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, Fortran order, type, and where the data starts."""
    if not content.startswith(npy.MAGIC_PREFIX):
        raise Problem("wrong-type", "images: is not a .npy file; numpy.save writes one.")
    file = io.BytesIO(content[:HEADER_BYTES])
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file, max_header_size=HEADER_BYTES)
    except Exception:  # numpy evaluates the header as a Python literal, which can go wrong in many ways
        raise Problem("broken-file", "images: has a .npy header that cannot be read.") from None
    if any(abs(side) > MOST for side in shape):  # of thousands of digits, in hexadecimals, it could not even be named
        raise Problem("broken-file", f"images: has a .npy header with a side of more than {MOST}.")
    return shape, fortran, dtype, file.tell()
