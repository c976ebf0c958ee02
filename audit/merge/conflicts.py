"""What an evaluation found under one name: its record, its columns, its images. Two evaluations may use one name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle
from bundle.table.columns import ANSWER_PARTS, SMOOTHING_PARTS
from bundle.table.outcomes import SETTINGS, distance_column

#: Stands for the name in the names of columns and images.
NAME = "{}"
#: What a name has at its end after it was changed because another had it.
ENDING = re.compile(r"(-seed-\d+)?(-\d+)?")


@dataclass(frozen=True)
class Finding:
    """An attack, smoothed classifier, minimum distance or union of one bundle.

    `group` is what must not have a name twice (an attack's threat); `columns` and `images` are by their names with {}
    in the place of the finding's own; `old` is the name in its bundle, `record` has the one it gets.
    """

    bundle: str
    kind: str
    group: str
    old: str
    record: Mapping[str, Any]
    seed: int | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict[str, NDArray[np.uint8]])

    def called(self, name: str) -> Finding:
        """The same under another name."""
        return replace(self, record={**self.record, "name": name})

    def key(self, name: str) -> str:
        """A name as people find it: `linf-8/pgd-10` for an attack."""
        return f"{self.group}/{name}" if self.group else name

    def named_columns(self) -> dict[str, NDArray[Any]]:
        return {name.format(self.record["name"]): values for name, values in self.columns.items()}

    def named_images(self) -> dict[str, NDArray[np.uint8]]:
        return {name.format(self.record["name"]): array for name, array in self.images.items()}

    def repeats(self, other: Finding) -> bool:
        """Whether this is what `other` found too, to the bit, under its name or one that was made from it."""
        pairs = ((self.columns, other.columns), (self.images, other.images))
        return (
            self.group == other.group
            and _akin(self.record["name"], other.record["name"])
            and {**self.record, "name": ""} == {**other.record, "name": ""}
            and all(left.keys() == right.keys() for left, right in pairs)
            and all(_equal(left[key], right[key]) for left, right in pairs for key in left)
        )


def joined(found: Sequence[Sequence[Finding]]) -> list[Finding]:
    """The findings of all bundles, `found` one list a bundle: the same once, and others of a taken name renamed."""
    kept: dict[tuple[str, str], Finding] = {}
    for findings in found:
        before = list(kept.values())  # what one bundle tells apart stays apart
        for item in findings:
            if not any(item.repeats(earlier) for earlier in before):
                name = next(name for name in _names(item) if (item.group, name) not in kept)
                kept[item.group, name] = item.called(name)
    return list(kept.values())


def evaluation_seed(predicate: Mapping[str, Any]) -> int:
    """The seed of an evaluation's attacks: `parameters.attack.seed`, or where there is none the sample's."""
    return predicate["parameters"].get("attack", {}).get("seed", predicate["sample"]["seed"])


def attack_findings(bundle: Bundle) -> list[Finding]:
    """Every attack of a bundle, with what it did to each image in both settings."""
    return [
        _finding(
            bundle,
            "attack",
            item,
            [f"{setting}/{item['threat']}/{NAME}/{part}" for setting in SETTINGS for part in ("broken", *ANSWER_PARTS)],
            group=item["threat"],
            images=[f"{item['threat']}/{NAME}"],
        )
        for item in bundle.predicate["attacks"]
    ]


def smoothing_findings(bundle: Bundle) -> list[Finding]:
    """Every smoothed classifier of a bundle, with its counts and radii."""
    columns = [f"{NAME}/{part}" for part in SMOOTHING_PARTS]
    return [_finding(bundle, "smoothed classifier", item, columns) for item in bundle.predicate["smoothing"]]


def distance_findings(bundle: Bundle) -> list[Finding]:
    """Every minimum-norm attack of a bundle, with its distances."""
    columns = [distance_column(NAME)]
    return [_finding(bundle, "distance", item, columns) for item in bundle.predicate["distances"]]


def union_findings(bundle: Bundle) -> list[Finding]:
    """Every union of a bundle; it has no columns of its own, and no seed."""
    return [Finding(str(bundle.path), "union", "", item["name"], item) for item in bundle.predicate["unions"]]


def _finding(
    bundle: Bundle,
    kind: str,
    record: Mapping[str, Any],
    columns: Sequence[str],
    group: str = "",
    images: Sequence[str] = (),
) -> Finding:
    name = record["name"]
    return Finding(
        str(bundle.path),
        kind,
        group,
        name,
        record,
        evaluation_seed(bundle.predicate),
        {column: bundle.outcomes[column.format(name)] for column in columns},
        {image: bundle.images[image.format(name)] for image in images},
    )


def _names(item: Finding) -> Iterator[str]:
    """The finding's own name, and those that it takes where that is another's."""
    name = item.record["name"]
    yield name
    if item.seed is not None:
        yield f"{name}-seed-{item.seed}"
    yield from (f"{name}-{number}" for number in count(2))


def _akin(one: str, other: str) -> bool:
    """Whether the names are the same, or one was made from the other."""
    shorter, longer = sorted((one, other), key=len)
    return longer.startswith(shorter) and ENDING.fullmatch(longer[len(shorter) :]) is not None


def _equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
