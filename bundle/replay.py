"""Evidence run again through the served model: verdicts on 8-bit images, and the self-check of a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import Outcomes, confidences, margins
from bundle.runtime import OnnxClassifier

SELF_CHECK_ROWS = 64


@dataclass(frozen=True)
class Verdicts:
    """A model's answers: predictions (N,), margins (N,), and the probability of each answer (N,)."""

    predictions: NDArray[np.int64]
    margins: NDArray[np.float32]
    confidences: NDArray[np.float32]

    @classmethod
    def of(cls, logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Verdicts:
        """The verdicts of logits (N, K) on labels (N,)."""
        return cls(logits.argmax(axis=1), margins(logits, labels), confidences(logits))


def judge(classifier: OnnxClassifier, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> Verdicts:
    """Runs images uint8 (N, H, W, C) through the model."""
    return Verdicts.of(classifier.logits_in_batches(images), labels)


@dataclass(frozen=True)
class SelfCheck:
    """How many of the closest verdicts differ on this host from the attested ones."""

    rows: int
    moved: int
    allowed: int
    provider: str

    @property
    def passed(self) -> bool:
        return self.moved <= self.allowed


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
    """Replays the rows with the smallest margins on this host and counts the verdicts that moved."""
    settings = predicate["selfCheck"]
    closest = closest_rows(outcomes, predicate["attacks"], settings["rows"])
    stacked = np.stack([images[name][row] for name, row in closest])
    labels = np.array([outcomes["label"][row] for _, row in closest])
    wrong = judge(classifier, stacked, labels).predictions != labels
    attested = np.array([_attested_wrong(outcomes, name, row) for name, row in closest])
    return SelfCheck(len(closest), int((wrong != attested).sum()), settings["allowedMoved"], classifier.provider)


def _attested_wrong(outcomes: Outcomes, name: str, row: int) -> bool:
    if name == "clean":
        return not bool(outcomes.clean_right("served")[row])
    return bool(outcomes[f"served/{name}/broken"][row])
