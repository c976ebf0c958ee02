"""Which rows of a bundle are repeated: all of them, or a sample that a seed draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Selection:
    """Places in the outcome table (n,), ascending, of its `of` rows; `seed` and where it is from, where they were drawn."""

    rows: NDArray[np.int64]
    of: int
    seed: int | None = None
    source: str | None = None

    @property
    def whole(self) -> bool:
        return len(self.rows) == self.of

    def describe(self) -> dict[str, Any]:
        """The selection as the report's JSON has it."""
        return {"size": len(self.rows), "of": self.of, "seed": self.seed, "seedFrom": self.source}


def select(of: int, sample: int | None, seed: int | None, attestation: str) -> Selection:
    """`sample` of `of` rows, all where there are no more or none is given.

    Without a seed the first digits of `attestation`, its SHA-256, are one: whoever made the bundle knows that draw.
    """
    if sample is None or sample >= of:
        return Selection(np.arange(of), of)
    source = "the first 8 digits of the attestation's SHA-256" if seed is None else "--seed"
    seed = int(attestation[:8], 16) if seed is None else seed
    return Selection(np.sort(np.random.default_rng(seed).permutation(of)[:sample]), of, seed, source)
