"""Two bundles side by side: the images that both have, the attacks that both met, and what differs in their making."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.errors import HallmarkError
from bundle.pages.headline import attack_names, main_names
from bundle.pages.wording import leaves

#: Settings of an attack that choose its random numbers, not its strength.
DRAWS = ("seed", "batchSize")

Rows = NDArray[np.intp]


class PairingError(HallmarkError):
    """Two bundles cannot be compared image by image."""


@dataclass(frozen=True)
class Pair:
    """Two verified bundles, and by which names people know them."""

    a: Bundle
    b: Bundle

    @cached_property
    def rows(self) -> tuple[Rows, Rows]:
        """The rows of the images that both have; see common_rows."""
        first, second = common_rows([self.a, self.b])
        return first, second

    @property
    def unpaired(self) -> tuple[int, int]:
        """How many images only A has, and only B."""
        return len(self.a.outcomes) - len(self.rows[0]), len(self.b.outcomes) - len(self.rows[1])

    def threats(self) -> list[str]:
        """The threats that both were attacked with, in A's order."""
        others = {item["name"] for item in self.b.predicate["threats"]}
        return [item["name"] for item in self.a.predicate["threats"] if item["name"] in others]

    def unions(self) -> list[Mapping[str, Any]]:
        """The unions that both have, of the same threats, each of which met an attack of one strength on both sides."""
        others = self.b.predicate["unions"]
        mine = [item for item in self.a.predicate["unions"] if item in others]
        return [item for item in mine if all(map(self.common_attacks, item["threats"]))]

    def deciding(self) -> str | None:
        """The threat that decides: the headline's of A, else of B, else another main one of either; None without one.

        What is a point of the curve on both sides met too little to decide.
        """
        common, mine, theirs = self.threats(), main_names(self.a.predicate), main_names(self.b.predicate)
        return next((name for name in [mine[0], theirs[0], *mine, *theirs] if name in common), None)

    def common_attacks(self, threat: str) -> list[str]:
        """The attacks of one name and one strength on both sides; what chooses random numbers may differ."""
        others = attack_strengths(self.b.predicate, threat)
        mine = attack_strengths(self.a.predicate, threat)
        return [name for name, strength in mine.items() if others.get(name) == strength]

    def other_attacks(self, threat: str) -> list[str]:
        """The attacks that one side alone met, or that were set to another strength."""
        common, names = set(self.common_attacks(threat)), dict[str, None]()
        for bundle in (self.a, self.b):
            names |= dict.fromkeys(attack_names(bundle.predicate, threat))
        return [name for name in names if name not in common]

    def right(
        self, setting: str, threat: str | None = None, attacks: list[str] | None = None
    ) -> list[NDArray[np.bool_]]:
        """Which of the common images each side has right: clean, or under these attacks of a threat."""
        return [
            (
                bundle.outcomes.clean_right(setting)
                if threat is None
                else bundle.outcomes.robust(setting, threat, attacks or [])
            )[rows]
            for bundle, rows in zip((self.a, self.b), self.rows, strict=True)
        ]

    def right_in_union(self, setting: str, union: Mapping[str, Any]) -> list[NDArray[np.bool_]]:
        """Which of the common images each side has right under the common attacks of every threat of a union."""
        by_threat = [self.right(setting, threat, self.common_attacks(threat)) for threat in union["threats"]]
        return [np.logical_and.reduce(side) for side in zip(*by_threat, strict=True)]

    def changed(self) -> list[dict[str, Any]]:
        """The settings that differ, leaf by leaf: `setting`, `a`, `b`; null where a side has none."""
        return _differing(self.a.predicate["parameters"], self.b.predicate["parameters"])

    def data(self) -> list[dict[str, Any]]:
        """The digests of the data that differ, as `changed` gives settings."""
        return _differing(_data(self.a.predicate), _data(self.b.predicate))


def common_rows(bundles: Sequence[Bundle]) -> list[Rows]:
    """For each bundle the rows of the images that all have, in the first one's order; an image there twice pairs twice.

    Raises PairingError where no image is in all, or one has another class in another bundle.
    """
    places = [{key: row for row, key in enumerate(_keys(bundle))} for bundle in bundles]
    keys = [key for key in places[0] if all(key in others for others in places[1:])]
    names = ", ".join(str(bundle.path) for bundle in bundles)
    if not keys:
        raise PairingError(f"{names}: have no image in common, so nothing can be compared")
    found = [np.array([rows[key] for key in keys], dtype=np.intp) for rows in places]
    labels = [_labels(bundle)[rows] for bundle, rows in zip(bundles, found, strict=True)]
    for bundle, rows, other in zip(bundles, found, labels, strict=True):
        if len(differ := np.flatnonzero(other != labels[0])):
            raise PairingError(
                f"{bundle.path}: row {rows[differ[0]]} has another label than the same image in {bundles[0].path}; "
                "models of different tasks are not compared"
            )
    return found


def _keys(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """The images' digests; the second of the same image is told from the first."""
    seen = Counter[str]()
    for digest in bundle.outcomes["image_sha256"]:
        yield str(digest), seen[digest]
        seen[digest] += 1


def _labels(bundle: Bundle) -> NDArray[np.str_]:
    return np.array(bundle.class_names)[bundle.outcomes["label"]]


def attack_strengths(predicate: Mapping[str, Any], threat: str) -> dict[str, Any]:
    """By name, the attacks of a threat with what makes them strong: their program, and settings that draw no numbers."""
    return {
        item["name"]: (
            item["harness"]["name"],
            {name: value for name, value in item["settings"].items() if name not in DRAWS},
        )
        for item in predicate["attacks"]
        if item["threat"] == threat
    }


def _data(predicate: Mapping[str, Any]) -> dict[str, Any]:
    data = predicate["data"]
    splits = {name: split["sha256"] for name, split in data["splits"].items()}
    extra = {"extra": data["extra"]["file_sha256"]} if "extra" in data else {}
    return {"name": data["name"], "splits": splits, **extra}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    first, second = dict(leaves(a)), dict(leaves(b))
    return [
        {"setting": name, "a": first.get(name), "b": second.get(name)}
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name) or (name in first) != (name in second)
    ]
