"""The difference of two models on the images that both have: whether B is better, in a sentence and on a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from audit.terminal import ABSENT, console, plain_table
from bundle.gate.pairing import Pair
from bundle.layout import VERSION_DIGITS
from bundle.numbers.intervals import PairedDifference, paired_difference, verdict
from bundle.pages.headline import sweep_threats
from bundle.pages.wording import attack_label, attack_title, listing, percent, points, threat_name_title
from bundle.process import plain
from bundle.table.outcomes import SETTINGS
from bundle.table.plan import ALL_ATTACKS

#: Stands for all attacks that both sides met, where they did not meet the same.
COMMON_ATTACKS = "common"
#: The setting that decides: it is the one that is served.
DECIDING = "served"


@dataclass(frozen=True)
class Comparison:
    """One number of both sides: on clean images (no threat), or under an attack, all of them, or all common ones.

    `threat` is a union's name too: right under the attacks of every one of its threats.
    `discordant` are the indices in the test split of the images that A alone, and that B alone, has right.
    """

    setting: str
    threat: str | None
    attack: str | None
    value_a: float
    value_b: float
    pair: PairedDifference
    discordant: tuple[list[int], list[int]]

    def describe(self) -> dict[str, Any]:
        where = {"setting": self.setting} | ({"threat": self.threat, "attack": self.attack} if self.threat else {})
        return where | {
            "a": self.value_a,
            "b": self.value_b,
            "images": self.pair.images,
            "difference": self.pair.difference,
            "interval": list(self.pair.interval),
            "onlyA": self.discordant[0],
            "onlyB": self.discordant[1],
            "verdict": verdict(self.pair.interval),
        }


class Difference:
    """B minus A, image by image. Takes two verified bundles; raises PairingError where they have nothing in common."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.comparisons = list(self._compare())

    def _compare(self) -> Iterator[Comparison]:
        for setting in reversed(SETTINGS):
            yield self._one(self.pair.right(setting), setting)
            for threat in self.pair.threats():
                common = self.pair.common_attacks(threat)
                for name in common:
                    yield self._one(self.pair.right(setting, threat, [name]), setting, threat, name)
                if common:
                    yield self._one(self.pair.right(setting, threat, common), setting, threat, self._label([threat]))
            for union in self.pair.unions():
                right, label = self.pair.right_in_union(setting, union), self._label(union["threats"])
                yield self._one(right, setting, union["name"], label)

    def _label(self, threats: Sequence[str]) -> str:
        """What all common attacks of the threats are called."""
        return COMMON_ATTACKS if any(map(self.pair.other_attacks, threats)) else ALL_ATTACKS

    def _one(
        self, right: Sequence[NDArray[np.bool_]], setting: str, threat: str | None = None, attack: str | None = None
    ) -> Comparison:
        right_a, right_b = right
        index: NDArray[np.int64] = self.pair.a.outcomes["index"][self.pair.rows[0]]
        discordant = [[int(number) for number in index[rows]] for rows in (right_a & ~right_b, right_b & ~right_a)]
        return Comparison(
            setting,
            threat,
            attack,
            float(right_a.mean()),
            float(right_b.mean()),
            paired_difference(right_a, right_b),
            (discordant[0], discordant[1]),
        )

    @property
    def same(self) -> bool:
        """Whether both sides are one evaluation of one model, to the byte."""
        return self.pair.a.statement_bytes == self.pair.b.statement_bytes

    def main(self) -> list[Comparison]:
        """The comparisons of the served file on clean images, at A's main threats and in unions."""
        curve = {item["name"] for item in sweep_threats(self.pair.a.predicate)}
        return [item for item in self.comparisons if item.setting == DECIDING and item.threat not in curve]

    @cached_property
    def deciding(self) -> Comparison | None:
        """All attacks (all common ones, where they differ) of the headline's threat in the served setting."""
        threat = self.pair.deciding()
        wanted = [item for item in self.comparisons if (item.setting, item.threat) == (DECIDING, threat)]
        return wanted[-1] if threat and wanted else None  # the last one is about all of them

    def sentence(self) -> str:
        """Whether B is better, worse or not distinguishable, by what, and what stands against believing it."""
        found = self.deciding
        if found is None:
            return "Not compared: A and B met no attack of the same threat and strength, so only clean images compare."
        assert found.threat is not None
        low, high = found.pair.interval
        under = "all attacks" if found.attack == ALL_ATTACKS else "the attacks that both met"
        threat = threat_name_title(self.pair.a.predicate, found.threat)
        return (
            f"B is {_said(verdict(found.pair.interval))}: {points(found.pair.difference)} points "
            f"[{points(low)}, {points(high)}] under {under} of {threat}, served, on {found.pair.images} images "
            f"({found.pair.only_b} that B alone has right, {found.pair.only_a} that A alone has)."
        )

    def cautions(self) -> list[str]:
        """What a reader must know beside the sentence."""
        found = [
            f"{name} is unreliable: a sanity check failed, so the truth may be much worse."
            for name, bundle in (("A", self.pair.a), ("B", self.pair.b))
            if not bundle.predicate["reliable"]
        ]
        threat = self.pair.deciding()
        if threat and (others := self.pair.other_attacks(threat)):
            titles = listing([attack_title(name) for name in others])
            found.append(f"The attacks are not the same: those that both met in one strength count, without {titles}.")
        alone = self.pair.unpaired
        if any(alone):
            found.append(f"Images that one side alone has are left out: {alone[0]} of A, {alone[1]} of B.")
        if self.pair.a.digest == self.pair.b.digest:
            found.append("A and B are the same model file: what differs is the evaluation.")
        return found

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        sides = {
            name: {"version": bundle.version, "digest": bundle.digest, "folder": bundle.path.as_posix()}
            for name, bundle in (("a", self.pair.a), ("b", self.pair.b))
        }
        return {
            **sides,
            "images": len(self.pair.rows[0]),
            "alone": dict(zip(("a", "b"), self.pair.unpaired, strict=True)),
            "verdict": verdict(self.deciding.pair.interval) if self.deciding else None,
            "decidedBy": self.deciding.describe() if self.deciding else None,
            "same": self.same,
            "sentence": self.sentence(),
            "cautions": self.cautions(),
            "comparisons": [item.describe() for item in self.comparisons],
            "changed": self.pair.changed(),
            "data": self.pair.data(),
        }


def _said(word: str) -> str:
    return f"{word} from A" if word == "not distinguishable" else f"{word} than A"


def discordant_words(indices: Sequence[int], most: int = 8) -> str:
    """The images by their index, the first few of them: `17, 203 and 5 more`."""
    shown = ", ".join(map(str, indices[:most])) or "none"
    return shown if len(indices) <= most else f"{shown} and {len(indices) - most} more"


def percentages(comparison: Comparison) -> tuple[str, str]:
    """Both sides' accuracies in per cent."""
    return percent(comparison.value_a), percent(comparison.value_b)


def print_difference(found: Difference, everything: bool = False) -> None:
    """The sentence, the cautions, one row per comparison, the discordant images, what changed.

    Without `everything` the rows are those of the served file, on clean images and at the main threats. Two evaluations
    that are the same to the byte are one line.
    """
    out = console()
    if found.same:
        out.print(f"A and B are the same evaluation of model {found.pair.a.version}: nothing differs.", soft_wrap=True)
        return
    print_head(out, found.sentence(), found.cautions())
    rows = found.comparisons if everything else found.main()
    for setting in dict.fromkeys(item.setting for item in rows):
        if everything:
            out.print(f"\n{setting.capitalize()}")
        out.print(_table([item for item in rows if item.setting == setting]))
    if len(rows) < len(found.comparisons):
        out.print("Served, at the main threats; --all has the reference and the other radii.", soft_wrap=True)
    if found.deciding:
        a, b = (discordant_words(indices) for indices in found.deciding.discordant)
        out.print(f"Images right in A alone, by their index in the test split: {a}; in B alone: {b}.", soft_wrap=True)
    print_changes(out, found.pair.changed(), found.pair.data())


def _table(rows: Sequence[Comparison]) -> Table:
    """Of one setting: with a column for it, names would be folded at 80 columns."""
    numbers = ("A", "B", "B − A", "95 % interval", "A alone", "B alone")
    table = plain_table("threat", "attack", *numbers, whole=("threat", *numbers))
    for item in rows:
        attack = {None: "clean images", COMMON_ATTACKS: "all that both met"}.get(item.attack)
        low, high = item.pair.interval
        counts = (str(item.pair.only_a), str(item.pair.only_b))
        cells = (*percentages(item), points(item.pair.difference), f"[{points(low)}, {points(high)}]", *counts)
        table.add_row(*map(plain, (item.threat or ABSENT, attack or attack_label(item.attack or ""), *cells)))
    return table


def print_head(out: Console, sentence: str, cautions: Sequence[str]) -> None:
    for line in (sentence, *cautions):
        out.print(plain(line), soft_wrap=True)


def print_changes(out: Console, changed: Sequence[Mapping[str, Any]], data: Sequence[Mapping[str, Any]]) -> None:
    for title, items in (("Settings that changed", changed), ("Data that differ", data)):
        out.print(f"\n{title}{': none' if not items else ''}")
        for item in items:
            a, b = (_value(item[side]) for side in ("a", "b"))
            out.print(plain(f"  {item['setting']}: {a} → {b}"), soft_wrap=True)


def _value(value: object) -> object:
    """A setting's value; of a SHA-256 its beginning, since `--json` has all of it."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:VERSION_DIGITS]}…"
    return ABSENT if value is None else value
