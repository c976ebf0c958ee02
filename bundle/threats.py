"""The ball that an adversary may search, on the 8-bit grid of images that a client can send."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Threat:
    """An l∞ ball around each image.

    `eps_255` is the radius in 255ths of the pixel range: 8 means 8/255 for float images and 8 levels for uint8 images.
    """

    norm: Literal["linf"]
    eps_255: float

    @property
    def eps(self) -> float:
        """The radius for images in [0, 1]."""
        return self.eps_255 / 255

    @property
    def name(self) -> str:
        """The key of the threat in tables, files and claims: `linf-8`."""
        return f"{self.norm}-{self.eps_255:g}"

    @property
    def levels(self) -> int:
        """The radius on the 8-bit grid, in whole levels: a radius of 7.9 admits 7."""
        return math.floor(self.eps_255)

    def inside(self, clean: NDArray[np.uint8], adversarial: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which rows of `adversarial` (uint8, (N, H, W, C)) lie in the ball around `clean`; integers, so no rounding."""
        distance = np.abs(adversarial.astype(np.int16) - clean.astype(np.int16))
        return distance.reshape(len(clean), -1).max(axis=1) <= self.levels

    def describe(self) -> dict[str, Any]:
        """The threat as the attestation's predicate records it."""
        return {"name": self.name, "norm": self.norm, "eps_255": self.eps_255, "levels": self.levels}
