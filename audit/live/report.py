"""What an inspection of a service found, in exact words: contradicted in k of n rows, or not contradicted in n rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from audit.live.service import Way
from audit.verification import SignatureState
from bundle.attestation import model_version

#: A fresh accuracy as low as this by chance alone, with the attested model, contradicts; a fraction.
CHANCE = 0.001
#: What no inspection from outside can show.
LIMITS = (
    "A service can tell an auditor from a user by address, token or order of requests, and answer users otherwise.",
    "It can change after this; the answers are of this hour.",
    "That the attested numbers were measured as stated, it does not show: see hallmark verify and reattack.",
)


@dataclass(frozen=True)
class Check:
    """Images that were asked about in one way, and the answers held against the attestation or model.onnx.

    `close` answers differ where it is too close to tell (audit.live.findings), and count as neither.
    """

    name: str
    way: Way
    against: Literal["attestation", "model.onnx"]
    asked: int
    contradicted: int
    close: int


@dataclass(frozen=True)
class LiveAccuracy:
    """An accuracy recomputed from answers, and the attested one on the same rows: fractions as in a claim."""

    way: Way
    metric: str
    threat: str | None
    answered: Mapping[str, Any]
    attested: Mapping[str, Any]


@dataclass(frozen=True)
class MovedAnswers:
    """Verdicts that moved within the tolerance, and how many the bundle allows a host; None: too many rows to say."""

    way: Way
    verdicts: int
    allowed: int | None

    @property
    def contradicted(self) -> bool:
        return self.allowed is not None and self.verdicts > self.allowed


@dataclass(frozen=True)
class Fresh:
    """The accuracy on images outside the evidence beside the attested clean accuracy.

    `interval` is the 95 % interval of the difference (fresh minus attested); `chance` is that of an accuracy this low
    or lower with the attested model (Fisher's exact test).
    """

    way: Way
    answered: Mapping[str, Any]
    attested: Mapping[str, Any]
    interval: tuple[float, float]
    chance: float

    @property
    def contradicted(self) -> bool:
        return self.chance < CHANCE


@dataclass(frozen=True)
class Stability:
    """How many images with one level changed were answered as the unchanged ones are attested; judged by nobody."""

    way: Way
    asked: int
    same: int


@dataclass(frozen=True)
class BatchConsistency:
    """Images that model.onnx was given alone and in a batch here, and how many it answered otherwise."""

    asked: int
    apart: int


@dataclass(frozen=True)
class Square:
    """Square through HTTP: images tried and broken, and those broken that are attested right under every attack."""

    threat: str
    queries: int
    tried: int
    broken: int
    new: int
    attested: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Everything that was found. `answers` counts HTTP answers whose model was checked, `others` those by another."""

    url: str
    digest: str
    signature: SignatureState
    seed: int
    answers: int
    others: Sequence[str]
    documents: Sequence[str]
    checks: Sequence[Check]
    accuracies: Sequence[LiveAccuracy]
    moved: Sequence[MovedAnswers]
    fresh: Sequence[Fresh]
    stability: Sequence[Stability]
    batch: BatchConsistency | None
    square: Square | None
    unchecked: Sequence[str]

    @property
    def asked(self) -> int:
        return sum(check.asked for check in self.checks)

    @property
    def contradicted_rows(self) -> int:
        return sum(check.contradicted for check in self.checks)

    @property
    def contradicted(self) -> bool:
        """Whether anything was contradicted: a row, a document, the model that answers or how it does, or an accuracy."""
        accuracies = any(item.contradicted for item in [*self.moved, *self.fresh])
        batch = self.batch is not None and self.batch.apart
        return bool(self.contradicted_rows or self.others or self.documents or accuracies or batch)

    def sentence(self) -> str:
        """The outcome over the rows."""
        if not self.asked:
            return "no row could be asked about"
        if self.contradicted_rows:
            return f"contradicted in {self.contradicted_rows} of {self.asked} rows"
        return f"not contradicted in {self.asked} rows"

    def contradictions(self) -> Iterator[str]:
        """What else is contradicted, a sentence each."""
        if self.others:
            yield f"contradicted: {len(self.others)} of {self.answers} answers name another model; {self.others[0]}"
        for sentence in self.documents:
            yield f"contradicted: {sentence}"
        if self.batch is not None and self.batch.apart:
            wrong = (
                f"model.onnx answers {self.batch.apart} of {self.batch.asked} images otherwise alone than in a batch"
            )
            yield f"contradicted: {wrong}, so no accuracy holds for both"
        for item in self.moved:
            if item.contradicted:
                wrong = f"{item.verdicts} close verdicts moved ({item.way}), the bundle allows {item.allowed}"
                yield f"contradicted: {wrong}"
        for item in self.fresh:
            if item.contradicted:
                wrong = f"the accuracy on fresh images ({item.way}) is {item.answered['value']:.3f}"
                yield f"contradicted: {wrong}, attested is {item.attested['value']:.3f}; {told_chance(item)}"

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "outcome": "contradicted" if self.contradicted else "not contradicted",
            "sentence": self.sentence(),
            "contradictions": list(self.contradictions()),
            "url": self.url,
            "model": self.digest,
            "version": model_version(self.digest),
            "signature": asdict(self.signature),
            "seed": self.seed,
            "rows": self.asked,
            "contradictedRows": self.contradicted_rows,
            "answers": self.answers,
            "otherModel": len(self.others),
            "checks": [asdict(item) for item in self.checks],
            "accuracies": [asdict(item) for item in self.accuracies],
            "movedVerdicts": [asdict(item) for item in self.moved],
            "fresh": [asdict(item) for item in self.fresh],
            "oneLevelChanged": [asdict(item) for item in self.stability],
            "aloneAndInBatch": None if self.batch is None else asdict(self.batch),
            "square": None if self.square is None else asdict(self.square),
            "notChecked": list(self.unchecked),
            "limits": list(LIMITS),
        }


def told_chance(item: Fresh) -> str:
    """The chance of a fresh accuracy in words."""
    size = f"under {CHANCE:g}" if item.contradicted else f"{item.chance:.3f}"
    return f"with the attested model the chance of one as low is {size}"
