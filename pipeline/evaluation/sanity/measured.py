"""What the attacks of an evaluation found before its sanity checks run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """Verdicts of the network in the reference setting, all (N,), in the order of the sample.

    `clean`: right on the clean image. `right`: by attack, right under that attack, all of one threat; it counts only
    where the clean image is right too. `flags`: AutoAttack's warnings at that threat. `fingerprint`: the network's
    before the attacks.
    """

    clean: Right
    right: Mapping[str, Right]
    flags: Sequence[str] = ()
    fingerprint: str | None = None

    def under(self, names: Iterable[str]) -> Right:
        """Right on the clean image and under every one of the attacks, (N,)."""
        return np.logical_and.reduce([self.clean, *(self.right[name] for name in names)])

    def lost(self, names: Iterable[str], stronger: Iterable[str]) -> float:
        """Accuracy under all of `names` minus that under all of `stronger`, from whole images; it can be negative."""
        return (int(self.under(names).sum()) - int(self.under(stronger).sum())) / len(self.clean)

    def only(self, stronger: Iterable[str], weaker: Iterable[str]) -> float:
        """The share of images that stand under all of `stronger` and fall to one of `weaker`."""
        return float((self.under(stronger) & ~self.under(weaker)).mean())

    @property
    def black_box(self) -> list[str]:
        """Attacks that use no gradient of the network: queries, and images carried over from other networks."""
        return [name for name in self.right if name.startswith(("square", "transfer"))]

    @property
    def white_box(self) -> list[str]:
        """Attacks with gradients; AutoAttack counts as one, though its last part is a black box."""
        return [name for name in self.right if name != "noise" and name not in self.black_box]

    @property
    def pgd(self) -> list[str]:
        """PGD on cross-entropy and on the margin."""
        return [name for name in self.right if name.startswith("pgd-") or name == "margin"]

    @property
    def autoattack(self) -> list[str]:
        """AutoAttack in every version and seed that was run."""
        return [name for name in self.right if name.startswith("autoattack")]

    @property
    def longest_pgd(self) -> str | None:
        """PGD on cross-entropy with the most steps; None where there are not two numbers of steps to compare."""
        steps = sorted(int(name[4:]) for name in self.right if name.startswith("pgd-") and name[4:].isdecimal())
        return f"pgd-{steps[-1]}" if len(steps) > 1 else None

    def first(self, count: int) -> Measured:
        """The verdicts on the first `count` images."""
        return replace(
            self, clean=self.clean[:count], right={name: verdicts[:count] for name, verdicts in self.right.items()}
        )
