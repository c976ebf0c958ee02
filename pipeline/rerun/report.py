"""What a rerun found, in exact words: identical, within the tolerance, or contradicted in so many verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle.numbers.intervals import most_false
from pipeline.rerun.comparison import Comparison, drawn_by_batch
from pipeline.rerun.repetition import Absent, Repetition
from pipeline.rerun.selection import Selection
from pipeline.rerun.surroundings import Surroundings

Outcome = Literal["identical", "within the tolerance", "contradicted"]
#: What no repetition can show.
LIMITS = (
    "That the images are those of the test split: hallmark verify --data.",
    "That other attacks, or the same ones with other seeds, break no more: python -m pipeline.reattack.",
)


@dataclass(frozen=True)
class Difference:
    """One image whose verdict is another: its row in the test split, its label, and what was and is said of it."""

    index: int
    label: str
    comparison: Comparison
    place: int

    @property
    def explained(self) -> bool:
        return bool(self.comparison.explained[self.place])

    def verdict(self, right: NDArray[np.bool_], which: int) -> str:
        """`broken −0.31`: right or not then (0) or now (1), and the margin where there is one."""
        margins = self.comparison.margins
        word = "right" if right[self.place] else "broken" if self.comparison.kind == "attacked" else "wrong"
        return word if margins is None else f"{word} {margins[which][self.place]:+.4f}"

    @property
    def then(self) -> str:
        return self.verdict(self.comparison.right_then, 0)

    @property
    def now(self) -> str:
        return self.verdict(self.comparison.right_now, 1)

    def describe(self) -> dict[str, Any]:
        margins = self.comparison.margins
        return {
            "index": self.index,
            "label": self.label,
            "kind": self.comparison.kind,
            "name": self.comparison.name,
            "setting": self.comparison.setting,
            "rightThen": bool(self.comparison.right_then[self.place]),
            "rightNow": bool(self.comparison.right_now[self.place]),
            **({} if margins is None else {"marginThen": _finite(margins[0][self.place])}),
            **({} if margins is None else {"marginNow": _finite(margins[1][self.place])}),
            "withinTolerance": self.explained,
        }


@dataclass(frozen=True)
class Report:
    """Everything that a rerun found; `threats` are those of which all repeated attacks together are stated."""

    bundle: str
    version: str
    digest: str
    attestation: str
    classes: Sequence[str]
    selection: Selection
    surroundings: Surroundings
    found: Repetition
    comparisons: list[Comparison]

    @property
    def outcome(self) -> Outcome:
        if any(item.contradicted for item in self.comparisons):
            return "contradicted"
        return "within the tolerance" if any(item.differs.any() for item in self.comparisons) else "identical"

    @property
    def verdicts(self) -> int:
        return sum(len(item.differs) for item in self.comparisons)

    def sentence(self) -> str:
        """The outcome for people, with how many verdicts differ."""
        of = f"{len(self.selection.rows)} of {self.selection.of} images, {self.verdicts:,} verdicts"
        differing = sum(int(item.differs.sum()) for item in self.comparisons)
        beyond = sum(int((item.differs & ~item.explained).sum()) for item in self.comparisons)
        match self.outcome:
            case "identical":
                return f"every verdict came out again ({of})"
            case "within the tolerance":
                return f"{differing} verdicts differ, within the tolerance for another place ({of})"
            case "contradicted":
                return f"CONTRADICTED: {beyond} verdicts differ that may not ({of}; {differing} differ in all)"

    def scope(self) -> list[str]:
        """What a sample is, leaves open, and cannot repeat; nothing where it was all."""
        chosen = self.selection
        if chosen.whole:
            return []
        left = most_false(chosen.of, len(chosen.rows))
        drawn = (
            f"A sample, drawn with seed {chosen.seed} ({chosen.source}): where none of its rows is false, at most {left} "
            f"of all {chosen.of} are, with 95 % confidence."
        )
        names = ", ".join(self.batched)
        batched = f"Held to the tolerance alone, since starts are drawn for a batch as a whole: {names}."
        return [drawn, batched] if names else [drawn]

    @property
    def batched(self) -> list[str]:
        """Attacks that a sample cannot repeat to the bit."""
        names = (f"{item['threat']}/{item['name']}" for item in self.found.records if drawn_by_batch(item))
        return [] if self.selection.whole else list(names)

    def accuracies(self) -> Iterator[dict[str, Any]]:
        """The share that is right under all repeated attacks of a threat, then and now, by setting."""
        for threat in dict.fromkeys(item["threat"] for item in self.found.records):
            names = [item["name"] for item in self.found.records if item["threat"] == threat]
            for setting in ("reference", "served"):
                then, now = (table.robust(setting, threat, names) for table in (self.found.then, self.found.attacked))
                shares = {"accuracyThen": float(then.mean()), "accuracyNow": float(now.mean())}
                yield {"threat": threat, "setting": setting, "attacks": len(names), **shares}

    def differences(self) -> Iterator[Difference]:
        """Every image with another verdict, what contradicts first."""
        index, label = self.found.then["index"], self.found.then["label"]
        for item in sorted(self.comparisons, key=lambda item: not item.contradicted):
            for place in np.flatnonzero(item.differs):
                yield Difference(int(index[place]), self.classes[int(label[place])], item, int(place))

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "outcome": self.outcome,
            "sentence": self.sentence(),
            "bundle": self.bundle,
            "model": self.digest,
            "attestation": self.attestation,
            "sample": self.selection.describe(),
            "scope": self.scope(),
            "environment": self.surroundings.describe(),
            "drawnByBatch": self.batched,
            "comparisons": [item.describe() for item in self.comparisons],
            "allRepeated": list(self.accuracies()),
            "images": [item.describe() for item in self.differences()],
            "notRepeated": [{"what": item.what, "why": item.why} for item in self.absent],
            "limits": list(LIMITS),
        }

    @property
    def absent(self) -> list[Absent]:
        return self.found.absent


def _finite(value: float) -> float | None:
    """JSON has no number for what is none."""
    return float(value) if np.isfinite(value) else None
