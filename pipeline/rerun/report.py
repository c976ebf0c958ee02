"""What a rerun found, in exact words: identical, within the tolerance, or contradicted in so many verdicts.

A rerun's report as people read it: the outcome first, then what it rests on. Its tables fit 80 columns.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bundle.numbers.intervals import most_false
from bundle.process import plain
from bundle.table.outcomes import SETTINGS
from pipeline.rerun.conditions import Selection, Surroundings
from pipeline.rerun.contradictions import Repeated, drawn_by_batch
from pipeline.rerun.repetition import Absent, Repetition

Outcome = Literal["identical", "within the tolerance", "contradicted"]
#: What no repetition can show.
LIMITS = (
    "That the images are those of the test split: hallmark verify --data.",
    "That other attacks, or the same ones with other seeds, break no more: python -m pipeline.reattack.",
)


@dataclass(frozen=True)
class VerdictDifference:
    """One image whose verdict is another: its row in the test split, its label, and what was and is said of it."""

    index: int
    label: str
    comparison: Repeated
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
class RerunReport:
    """Everything that a rerun found; `threats` are those of which all repeated attacks together are stated."""

    bundle: str
    version: str
    digest: str
    attestation: str
    classes: Sequence[str]
    selection: Selection
    surroundings: Surroundings
    found: Repetition
    comparisons: list[Repeated]

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
        """Accuracy under all repeated attacks of a threat, then and now, by setting."""
        for threat in dict.fromkeys(item["threat"] for item in self.found.records):
            names = [item["name"] for item in self.found.records if item["threat"] == threat]
            for setting in ("reference", "served"):
                then, now = (table.robust(setting, threat, names) for table in (self.found.then, self.found.attacked))
                accuracies = {"accuracyThen": float(then.mean()), "accuracyNow": float(now.mean())}
                yield {"threat": threat, "setting": setting, "attacks": len(names), **accuracies}

    def differences(self) -> Iterator[VerdictDifference]:
        """Every image with another verdict, what contradicts first."""
        index, label = self.found.then["index"], self.found.then["label"]
        for item in sorted(self.comparisons, key=lambda item: not item.contradicted):
            for place in np.flatnonzero(item.differs):
                yield VerdictDifference(int(index[place]), self.classes[int(label[place])], item, int(place))

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


#: Images that are listed on a terminal; --json has all.
LISTED = 40
#: Where the output is no terminal, lines are not folded.
PIPE_WIDTH = 240
TITLES = {
    "replayed": "the bundle's images through the model",
    "corrupted": "answers to corrupted images",
    "smoothed": "noisy votes of smoothed classifiers",
    "proved": "proved radii",
}


def print_report(report: RerunReport) -> None:
    """Outcome, surroundings, a row per attack, what else was held against the table, the images, what was left out."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    out = Console(width=width, markup=False, emoji=False, highlight=False)
    out.print(f"{report.version} in {plain(report.bundle)}: {report.sentence()}")
    out.print(plain(f"Environment: {report.surroundings.sentence()}."))
    for sentence in report.scope():
        out.print(plain(sentence))
    out.print(
        "\nThe attacks with the bundle's own seeds: first line reference, second line served\n"
        "broken here: of the images that are right there; right here: of those broken there"
    )
    out.print(_attacks(report))
    out.print("\nBeside the attacks")
    out.print(_others(report))
    _images(out, list(report.differences()))
    out.print("\nNot repeated")
    for item in report.absent:
        out.print(plain(f"- {item.what}: {item.why}"))
    out.print("\nWhat this does not show")
    for sentence in LIMITS:
        out.print(f"- {sentence}")


def _attacks(report: RerunReport) -> Table:
    """Two lines per attack, and all repeated ones of a threat together."""
    table = _table("threat", "attack", "images", "broken here", "right here", "then", "now", "points", "pixels")
    pairs = [item for item in report.comparisons if item.kind == "attacked"]
    for reference, served in zip(pairs[::2], pairs[1::2], strict=True):
        threat, _, attack = reference.name.partition("/")
        rows = [item.describe() for item in (reference, served)]
        counts = [_lines(row[name] for row in rows) for name in ("brokenHere", "rightHere")]
        pixels = f"\n{rows[1]['largestPixelDifference']}"
        table.add_row(plain(threat), plain(attack), str(rows[0]["images"]), *counts, *_shares(rows), pixels)
    together = list(report.accuracies())
    for rows in zip(together[:: len(SETTINGS)], together[1 :: len(SETTINGS)], strict=True):
        if rows[0]["attacks"] > 1:
            title = f"all {rows[0]['attacks']} above"
            table.add_row(plain(rows[0]["threat"]), title, str(len(report.found.then)), "", "", *_shares(rows), "")
    return table


def _shares(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    """Accuracy then and now in per cent, and the difference in points."""
    pairs = [(100 * row["accuracyThen"], 100 * row["accuracyNow"]) for row in rows]
    yield _lines(f"{then:.1f}" for then, _ in pairs)
    yield _lines(f"{now:.1f}" for _, now in pairs)
    yield _lines(f"{now - then:+.1f}" if now != then else "0.0" for then, now in pairs)


def _others(report: RerunReport) -> Table:
    """What is held against the table beside the attacks, all of a kind in one row."""
    table = _table("what", "verdicts", "differ", "within tolerance")
    for kind, title in TITLES.items():
        found = [item for item in report.comparisons if item.kind == kind]
        if found:
            counts = (
                sum(len(item.differs) for item in found),
                sum(int(item.differs.sum()) for item in found),
                sum(int(np.sum(item.explained)) for item in found),
            )
            table.add_row(title, *(f"{count:,}" for count in counts))
    return table


def _images(out: Console, differences: list[VerdictDifference]) -> None:
    """Every image whose verdict is another, what contradicts first."""
    if not differences:
        return
    table = _table("index", "label", "of", "then", "now", "tolerance")
    for item in islice(differences, LISTED):
        within = "within" if item.explained else "BEYOND"
        table.add_row(str(item.index), plain(item.label), plain(_title(item.comparison)), item.then, item.now, within)
    out.print("\nImages that differ, by their row in the test split; with the margin, where there is one")
    out.print(table)
    if len(differences) > LISTED:
        out.print(f"and {len(differences) - LISTED} more: --json")


def _title(item: Repeated) -> str:
    kind = "" if item.kind == "attacked" else f" ({item.kind})"
    return f"{item.name}, {item.setting}{kind}"


def _table(*names: str) -> Table:
    table = Table(padding=(0, 0), pad_edge=False)
    for name in names:
        text = name in ("threat", "attack", "what", "label", "of", "then", "now", "tolerance")
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    return table


def _lines(items: Iterator[object]) -> str:
    return "\n".join(map(str, items))
