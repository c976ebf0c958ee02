"""What sanity checks are made of: the item that each writes, what was measured, and the network before and after.

An item of the predicate's `sanity` is a statistic, where it fails, and what came of it. Of the network: whether it answers
the same twice, and the same after the attacks as before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.evaluation.victim import Sample

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
        """The fraction of images that stand under all of `stronger` and fall to one of `weaker`."""
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


Item = dict[str, Any]
Outcome = Literal["pass", "warn", "fail"]

#: A check on few images cannot resolve a fraction finer than this many of them: random starts move one or two.
SLACK_IMAGES = 2
#: The fraction that AutoAttack's own warning about Square starts at; steps, restarts and black boxes take it too.
SLACK_FRACTION = 0.002
#: Five images of 1000: what a check may exceed its slack by before it fails and does not only warn.
FAIL_FACTOR = 2.5


def slack(images: int) -> float:
    """0.2 points, or 2 images where that is more."""
    return max(SLACK_FRACTION, SLACK_IMAGES / images)


def accuracy_of(limit: float, images: int) -> float:
    """A limit on a fraction of `images`, not finer than 2 of them."""
    return max(limit, SLACK_IMAGES / images)


def at_most(check: str, statistic: float, *, fail: float, meaning: str, warn: float | None = None) -> Item:
    """Passes up to `warn` (by default `fail`), warns up to `fail`, fails above; NaN fails."""
    limit = fail if warn is None else warn
    outcome: Outcome = "pass" if statistic <= limit else "warn" if statistic <= fail else "fail"
    return _item(check, statistic, "<=", fail, outcome, _with_limit(meaning, warn, "above"))


def at_least(check: str, statistic: float, *, fail: float, meaning: str, warn: float | None = None) -> Item:
    """Passes from `warn` (by default `fail`) on, warns from `fail` on, fails below; NaN fails."""
    limit = fail if warn is None else warn
    outcome: Outcome = "pass" if statistic >= limit else "warn" if statistic >= fail else "fail"
    return _item(check, statistic, ">=", fail, outcome, _with_limit(meaning, warn, "below"))


def _with_limit(meaning: str, warn: float | None, side: str) -> str:
    return meaning if warn is None else f"{meaning}; a warning {side} {warn:.4g}"


def _item(check: str, statistic: float, comparator: str, threshold: float, outcome: Outcome, meaning: str) -> Item:
    if math.isnan(statistic):
        # JSON has no such number: the first one beyond the threshold stands for it.
        statistic, meaning = threshold + (1 if comparator == "<=" else -1), f"{meaning}; it was no number"
    return {
        "check": check,
        "statistic": float(statistic),
        "comparator": comparator,
        "threshold": float(threshold),
        "outcome": outcome,
        "passed": outcome != "fail",
        "meaning": meaning,
    }


BATCH = 256
#: Sums in another order on an accelerator: as a fraction of the largest logit, far below what noise as a defence adds.
ROUNDING = 1e-4


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of all weights and buffers with their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_checks(network: nn.Module, sample: Sample, part: Sample, measured: Measured) -> Iterator[Item]:
    """The forward pass on `part`; clean accuracy and weights after the attacks, on the whole sample."""
    yield at_most(
        "deterministic",
        _repeat_difference(network, part.images),
        warn=0.0,
        fail=ROUNDING,
        meaning="largest difference of logits between two forward passes, as a share of the largest logit",
    )
    count = len(sample)
    yield at_most(
        "clean_accuracy_same",
        _moved(network, sample, measured),
        # Verdicts on the edge between two classes can move with the batch; an attack that harms the network moves more.
        warn=0.0,
        fail=slack(count),
        meaning="share of clean images whose verdict after the attacks is another than before",
    )
    if measured.fingerprint is not None:
        yield at_most(
            "weights_same",
            float(fingerprint(network) != measured.fingerprint),
            fail=0.0,
            meaning="1 where weights or statistics of the network are others after the attacks than before",
        )


@torch.no_grad()
def _repeat_difference(network: nn.Module, images: Tensor) -> float:
    first, second = network(images), network(images)
    change = (first - second).abs().max() / first.abs().max().clamp_min(torch.finfo(first.dtype).tiny)
    # Logits that are not finite are no answer: they count as different.
    return float(change.nan_to_num(nan=1.0))


@torch.no_grad()
def _moved(network: nn.Module, sample: Sample, measured: Measured) -> float:
    right = torch.cat([network(part.images).argmax(1) == part.labels for part in sample.batches(BATCH)])
    return float((right.cpu() != torch.from_numpy(measured.clean)).double().mean())
