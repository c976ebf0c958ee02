"""A share of images that are right, with its interval and the outcome of every image, so that anyone can recompute it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bundle.intervals import clopper_pearson
from pipeline.params import Section

Right = NDArray[np.bool_]


class Share(Section):
    """`correct` of `n` images; `right` holds a bit an image in the sample's order, packed, as hexadecimal digits."""

    n: int = Field(ge=1)
    correct: int = Field(ge=0)
    share: float = Field(ge=0, le=1)
    interval: list[float] = Field(min_length=2, max_length=2, description="95 %, Clopper-Pearson")
    right: str

    @classmethod
    def of(cls, right: Right) -> Share:
        """The share of the outcomes (N,), N ≥ 1."""
        correct = int(right.sum())
        return cls(
            n=len(right),
            correct=correct,
            share=correct / len(right),
            interval=list(clopper_pearson(correct, len(right))),
            right=pack(right),
        )

    def outcomes(self) -> Right:
        """Which images are right (N,)."""
        return unpack(self.right, self.n)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Share:
        counted = int(unpack(self.right, self.n).sum())
        if counted != self.correct:
            raise ValueError(f"correct says {self.correct}, and the outcomes in right say {counted}")
        exact = (self.correct / self.n, *clopper_pearson(self.correct, self.n))
        if not all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip((self.share, *self.interval), exact, strict=True)):
            raise ValueError("share and interval do not belong to correct and n")
        return self


def pack(right: Right) -> str:
    """Outcomes (N,) as hexadecimal digits, eight images a byte, the first in the highest bit."""
    return np.packbits(right).tobytes().hex()


def unpack(digits: str, n: int) -> Right:
    """What `pack` packed; raises ValueError for digits that do not hold n outcomes."""
    try:
        packed = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    except ValueError:
        raise ValueError("right is no string of hexadecimal digits") from None
    bits = np.unpackbits(packed).astype(bool)
    if len(packed) != -(-n // 8) or bits[n:].any():
        raise ValueError(f"right must hold {n} outcomes, a bit each, and zeros after them")
    return bits[:n]


def both(outcomes: Iterable[Right]) -> Right:
    """Which images are right in every one of these outcomes, as far as the shortest of them reaches."""
    listed = list(outcomes)
    shortest = min(map(len, listed))
    return np.logical_and.reduce([right[:shortest] for right in listed])
