"""A .npy file to the uint8 rows that the model takes; its header is judged before its data is touched."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from serving.problems import Problem

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
