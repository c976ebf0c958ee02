"""Whether a run here must give the attested verdicts to the last one: the same environment, code and arithmetic.

Which rows of a bundle are repeated: all of them, or a sample that a seed draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Surroundings:
    """What differs here from what the attestation says, a sentence each, and whether clean logits came out to the bit.

    Two processors of one name in the attestation may round otherwise; the attested clean margins tell them apart.
    """

    differences: list[str]
    to_the_bit: bool

    @property
    def same(self) -> bool:
        return not self.differences and self.to_the_bit

    def sentence(self) -> str:
        """The same for people."""
        if self.same:
            return "the same as attested, and the clean margins come out to the last bit: verdicts must be identical"
        bits = [] if self.to_the_bit else ["the clean margins do not come out to the last bit"]
        return f"another than attested, so that a tolerance holds: {'; '.join([*self.differences, *bits])}"

    def describe(self) -> dict[str, Any]:
        """The same as the report's JSON has it."""
        return {"same": self.same, "differences": self.differences, "cleanMarginsToTheBit": self.to_the_bit}


def environment_differences(attested: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each field, and each package that computes, that is another; `installed` lists all others too."""
    said, found = _flat(attested), _flat(here)
    for name in sorted({*said, *found}):
        if said.get(name) != found.get(name):
            yield f"{name} is {_shown(found.get(name))} here, {_shown(said.get(name))} there"


def code_differences(attested: Mapping[str, Any], repeated: list[dict[str, Any]]) -> Iterator[str]:
    """A sentence for each attack or package whose code, by its digest, is another than the one that was attested."""
    said = {(item["threat"], item["name"]): item["harness"] for item in attested["attacks"]}
    others = {
        harness["name"]
        for item in repeated
        if (harness := said.get((item["threat"], item["name"]))) not in (None, item["harness"])
    }
    for name in sorted(others):
        yield f"the attacks' code of {name} is another"


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages", {})
    fields = {name: value for name, value in environment.items() if name not in ("packages", "installed")}
    return {**fields, **(packages if isinstance(packages, Mapping) else {"packages": packages})}


def _shown(value: Any) -> str:
    text = "not named" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"


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
