"""The ball that an adversary may search, on the 8-bit grid of images that a client can send."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = get_args(Norm)
#: The field of a record that holds the radius: in 255ths of the pixel range, or for images in [0, 1].
RADIUS_FIELD: dict[Norm, str] = {"linf": "eps_255", "l2": "eps", "l1": "eps"}


@dataclass(frozen=True)
class Threat:
    """A ball around each image.

    `size` is the radius as people write it: for l∞ in 255ths of the pixel range (8 means 8/255 for float images and 8
    levels for uint8 images), for l2 and l1 for images in [0, 1] (0.5 means that the differences of all pixel values
    have an l2 norm of 0.5 at most).
    """

    norm: Norm
    size: float

    @property
    def eps(self) -> float:
        """The radius for images in [0, 1]."""
        return self.size / 255 if self.norm == "linf" else self.size

    @property
    def name(self) -> str:
        """The key of the threat in tables, files and claims: `linf-8`, `l2-0.5`."""
        return f"{self.norm}-{self.size:g}"

    @property
    def levels(self) -> int:
        """The budget on the 8-bit grid, in whole levels.

        l∞: the largest difference (a radius of 7.9 admits 7); l1: the largest sum of differences; l2: the largest sum
        of squared differences.
        """
        match self.norm:
            case "linf":
                return math.floor(self.size)
            case "l1":
                return math.floor(round(self.size * 255, 9))
            case "l2":
                return math.floor(round((self.size * 255) ** 2, 6))

    def inside(self, clean: NDArray[np.uint8], adversarial: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which rows of `adversarial` (uint8, (N, H, W, C)) lie in the ball around `clean`; integers, so no rounding."""
        distance = np.abs(adversarial.astype(np.int32) - clean.astype(np.int32)).reshape(len(clean), -1)
        match self.norm:
            case "linf":
                return distance.max(axis=1) <= self.levels
            case "l1":
                return distance.sum(axis=1, dtype=np.int64) <= self.levels
            case "l2":
                return (distance**2).sum(axis=1, dtype=np.int64) <= self.levels

    def scaled(self, factor: float) -> Threat:
        """The ball of the same norm with `factor` times the radius."""
        return self if factor == 1 else replace(self, size=self.size * factor)

    def describe(self) -> dict[str, Any]:
        """The threat as the attestation's predicate records it."""
        return {"name": self.name, "norm": self.norm, RADIUS_FIELD[self.norm]: self.size, "levels": self.levels}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Threat:
        """The threat of a record with a norm and the radius in its unit: `eps_255` for l∞, `eps` otherwise."""
        norm = record["norm"]
        return cls(norm, float(record[RADIUS_FIELD[norm]]))


def answering(attacked: Sequence[Threat], wanted: Threat | None) -> Threat:
    """Which of the threats that were attacked answers for the one that a model should withstand.

    That very one; where it was not attacked, the smallest of its norm that holds it, whose robust accuracy can only be
    lower; where none does, the largest of its norm; and where the norm was not attacked, or nothing is wanted, the first.
    `attacked` has at least one.
    """
    akin = sorted((item for item in attacked if wanted and item.norm == wanted.norm), key=lambda item: item.size)
    holding = [item for item in akin if wanted and item.size >= wanted.size]
    return (holding or akin[-1:] or list(attacked))[0]
