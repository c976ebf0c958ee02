"""The order in which a split's images are attacked: drawn by a seed, so that any first part of it is a random sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bundle.digests import sha256_bytes

RULE = "rows of the split sorted by the raw 64-bit numbers of PCG64(seed); the first `size` of them"


def seeded_order(images: int, seed: int) -> NDArray[np.int64]:
    """All rows of a split of so many images, in the seed's order.

    The raw bits of PCG64 are the stream that NumPy promises to keep; the methods of a Generator may change.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(images), kind="stable").astype(np.int64)


def order_digest(rows: NDArray[np.int64]) -> str:
    """SHA-256 of the rows as little-endian int64."""
    return sha256_bytes(np.ascontiguousarray(rows, dtype="<i8").tobytes())
