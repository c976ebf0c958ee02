"""Evidence run again through the served model: verdicts on 8-bit images, and the self-check of a host.

What was measured in batches holds for an image that is sent alone only where each answer depends on its own image. So
images are run both alone and together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.table.outcomes import Outcomes, confidences, margins

if TYPE_CHECKING:  # who only judges answers needs no ONNX Runtime
    from bundle.served.runtime import OnnxClassifier

Logits = NDArray[np.float32]

SELF_CHECK_ROWS = 64


@dataclass(frozen=True)
class ReplayedVerdicts:
    """A model's answers: predictions (N,), margins (N,), and the probability of each answer (N,)."""

    predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float32]

    @classmethod
    def of(cls, logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> ReplayedVerdicts:
        """The verdicts of logits (N, K) on labels (N,)."""
        return cls(logits.argmax(axis=1), margins(logits, labels), confidences(logits))


def judge(classifier: OnnxClassifier, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> ReplayedVerdicts:
    """Runs images uint8 (N, H, W, C) through the model."""
    return ReplayedVerdicts.of(classifier.logits_in_batches(images), labels)


def reach(predicate: Mapping[str, Any]) -> float:
    """By how much the difference of two logits may be another on another host, or in another batch."""
    return 2 * float(predicate["parity"]["tolerance"])


def count_apart(classifier: OnnxClassifier, images: NDArray[np.uint8], predicate: Mapping[str, Any]) -> int:
    """How many images uint8 (N, H, W, C) have other logits alone than in a batch, by more than rounding."""
    return int(_apart(*_alone_and_together(classifier, images), predicate).sum())


def _alone_and_together(classifier: OnnxClassifier, images: NDArray[np.uint8]) -> tuple[Logits, Logits]:
    return classifier.logits_in_batches(images, 1), classifier.logits_in_batches(images)


def _apart(one: Logits, other: Logits, predicate: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which rows (N,) of two runs' logits (N, K) are too far apart; logits that are no numbers are."""
    return ~(np.abs(one - other).max(axis=1) <= reach(predicate))


@dataclass(frozen=True)
class SelfCheck:
    """How many of the closest verdicts differ on this host from the attested ones, alone or in one batch."""

    rows: int
    moved: int
    allowed: int
    provider: str

    @property
    def passed(self) -> bool:
        return self.moved <= self.allowed

    def sentence(self) -> str:
        """The same for people."""
        moved = f"{self.moved} of the {self.rows} closest verdicts differ on this host ({self.provider})"
        return f"{moved}, alone or in a batch; the bundle allows {self.allowed}"

    def require(self) -> None:
        """Raises HallmarkError where it did not pass; for who is about to attest the verdicts."""
        if not self.passed:
            raise HallmarkError(f"model.onnx: {self.sentence()}; an image's answer must depend on that image alone")


def closest_rows(outcomes: Outcomes, attacks: list[Mapping[str, Any]], rows: int) -> list[tuple[str, int]]:
    """The (image set, row) pairs whose served margins are closest to zero; sets are `clean` and `THREAT/ATTACK`."""
    sets = ["clean", *(f"{attack['threat']}/{attack['name']}" for attack in attacks)]
    distance = np.stack([np.abs(outcomes[f"served/{name}/margin"]) for name in sets])
    order = np.argsort(distance, axis=None, kind="stable")[:rows]
    return [(sets[place // len(outcomes)], int(place % len(outcomes))) for place in order]


def self_check(
    classifier: OnnxClassifier,
    outcomes: Outcomes,
    images: Mapping[str, NDArray[np.uint8]],
    predicate: Mapping[str, Any],
) -> SelfCheck:
    """Replays the rows with the smallest margins on this host, one by one and in one batch, and counts those that moved.

    A row moved where its verdict differs from the attested one either way, or where its logits alone and in the batch are
    further apart than the attested tolerance.
    """
    settings = predicate["selfCheck"]
    closest = closest_rows(outcomes, predicate["attacks"], settings["rows"])
    stacked = np.stack([images[name][row] for name, row in closest])
    labels = np.array([outcomes["label"][row] for _, row in closest])
    attested = np.array([_attested_wrong(outcomes, name, row) for name, row in closest])
    alone, together = _alone_and_together(classifier, stacked)
    moved = _apart(alone, together, predicate)
    for logits in (alone, together):
        moved |= (ReplayedVerdicts.of(logits, labels).predictions != labels) != attested
    return SelfCheck(len(closest), int(moved.sum()), settings["allowedMoved"], classifier.provider)


def _attested_wrong(outcomes: Outcomes, name: str, row: int) -> bool:
    if name == "clean":
        return not bool(outcomes.clean_right("served")[row])
    return bool(outcomes[f"served/{name}/broken"][row])
