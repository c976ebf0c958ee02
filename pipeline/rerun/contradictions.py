"""Then and now, image by image: which verdicts differ, and which of the differences another processor explains.

On the processor, with the versions and the code of the attestation, nothing may differ. Elsewhere sums are rounded
otherwise and an attack's way leads elsewhere in the end, so that an image at the edge of being broken may fall on the
other side. How near the edge is, is measured here and never taken from the bundle, which could say anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle.served.replay import reach
from bundle.table.columns import corruption_columns, proof_column
from bundle.table.outcomes import SETTINGS, Outcomes
from pipeline.rerun.repetition import Repetition

Kind = Literal["attacked", "replayed", "corrupted", "smoothed", "proved"]
Flags = NDArray[np.bool_]
#: Elsewhere: an image is at the edge where its margin is below this fraction of the median clean margin; so many images, as
#: a fraction, may differ away from it, at least one; and so many in all, at least two.
EDGE, STRAY, MOST = 0.05, 0.005, 0.02
#: What has no attack's way in it, and so nothing that leads elsewhere.
STRAIGHT = ("replayed", "proved")
#: Votes of a smoothed classifier that may be others elsewhere, as a fraction.
VOTES = 0.01


@dataclass(frozen=True)
class Repeated:
    """One row of the report: n verdicts then and now.

    `right_then`, `right_now` (n,) say which images are right (attacks: when clean, too), `differs` whose verdict is
    another, `near` whose difference is explained elsewhere. `exact`: this place must give the very same. `margins`
    (2, n) are then's and now's, where there are any; `pixels` (n,) how far the adversarial images are apart.
    """

    kind: Kind
    name: str
    setting: str
    exact: bool
    right_then: Flags
    right_now: Flags
    differs: Flags
    near: Flags
    margins: NDArray[np.float64] | None = None
    pixels: NDArray[np.int64] | None = None

    @property
    def explained(self) -> Flags:
        """Which differences (n,) are within the tolerance; none is where they are too many."""
        stray, size = self.differs & ~self.near, len(self.differs)
        if self.exact or self.differs.sum() > max(2, math.floor(MOST * size)):
            return np.zeros_like(self.differs)
        allowed = 0 if self.kind in STRAIGHT else max(1, math.floor(STRAY * size))
        return self.differs if stray.sum() <= allowed else self.differs & self.near

    @property
    def contradicted(self) -> bool:
        return bool((self.differs & ~self.explained).any())

    @property
    def broken_here(self) -> int:
        """Right there and wrong here."""
        return int((self.differs & self.right_then & ~self.right_now).sum())

    def describe(self) -> dict[str, Any]:
        """The row as the report's JSON has it."""
        differing = int(self.differs.sum())
        return {
            "kind": self.kind,
            "name": self.name,
            "setting": self.setting,
            "exact": self.exact,
            "images": len(self.differs),
            "differ": differing,
            "brokenHere": self.broken_here,
            "rightHere": int((self.differs & ~self.right_then & self.right_now).sum()),
            "withinTolerance": int(self.explained.sum()),
            "accuracyThen": float(self.right_then.mean()),
            "accuracyNow": float(self.right_now.mean()),
            "largestPixelDifference": None if self.pixels is None else int(self.pixels.max()),
            "contradicted": self.contradicted,
        }


def compare(
    found: Repetition, predicate: Mapping[str, Any], *, same: bool, whole: bool, source: bool
) -> list[Repeated]:
    """Every verdict of a repetition beside the attested one.

    `same`: environment and arithmetic are the attested ones; `whole`: all rows were repeated; `source`: the code is the
    attested one to the byte.
    """
    edge = EDGE * float(np.nanmedian(np.abs(found.replayed["served/clean/margin"])))
    rounding = min(reach(predicate), edge)
    return [
        *(_clean(found, setting, exact=same, rounding=rounding) for setting in SETTINGS),
        *(_replayed(found, item, exact=same, rounding=rounding) for item in predicate["attacks"]),
        *(
            _attacked(found, item, setting, exact=same and (whole or not drawn_by_batch(item)), edge=edge)
            for item in found.records
            for setting in SETTINGS
        ),
        *_corrupted(found, predicate, exact=same),
        *_smoothed(found, predicate, exact=same and source),
        *_proved(found, predicate, exact=same),
    ]


def drawn_by_batch(record: Mapping[str, Any]) -> bool:
    """Whether an attack's random numbers are drawn for a batch as a whole, or nobody knows: AutoAttack, and plugins."""
    return record["name"].startswith("autoattack") or "entryPoint" in record["settings"]


def _clean(found: Repetition, setting: str, *, exact: bool, rounding: float) -> Repeated:
    now = found.replayed if setting == "served" else found.attacked
    return _verdicts("replayed", "clean", setting, found.then, now, exact=exact, rounding=rounding)


def _replayed(found: Repetition, item: Mapping[str, Any], *, exact: bool, rounding: float) -> Repeated:
    """The bundle's own adversarial images, which are the same everywhere, through model.onnx."""
    name = f"{item['threat']}/{item['name']}"
    return _verdicts("replayed", name, "served", found.then, found.replayed, exact=exact, rounding=rounding)


def _verdicts(
    kind: Kind, name: str, setting: str, then: Outcomes, now: Outcomes, *, exact: bool, rounding: float
) -> Repeated:
    """Answers to the same images: a margin may be another by rounding alone, and a verdict where the margin is."""
    label, column = then["label"], f"{setting}/{name}"
    answers = [table[f"{column}/prediction"] for table in (then, now)]
    margins = np.stack([table[f"{column}/margin"] for table in (then, now)]).astype(np.float64)
    right = [answer == label for answer in answers]
    confidences = [table[f"{column}/confidence"] for table in (then, now)]
    moved = ~(_equal(margins[0], margins[1], rounding) & _equal(confidences[0], confidences[1], rounding))
    near = (np.abs(margins) <= rounding).all(axis=0) & ~moved
    return Repeated(kind, name, setting, exact, right[0], right[1], (right[0] != right[1]) | moved, near, margins)


def _equal(one: NDArray[Any], other: NDArray[Any], rounding: float) -> Flags:
    return np.isclose(one, other, rtol=0, atol=rounding, equal_nan=True)


def _attacked(found: Repetition, item: Mapping[str, Any], setting: str, *, exact: bool, edge: float) -> Repeated:
    """Other images, that the same attack found: near the edge where both times the image was all but on the other side."""
    name, tables = f"{item['threat']}/{item['name']}", (found.then, found.attacked)
    broken = [table[f"{setting}/{name}/broken"].astype(bool) for table in tables]
    right = [table.clean_right(setting) & ~wrong for table, wrong in zip(tables, broken, strict=True)]
    margins = np.stack([table[f"{setting}/{name}/margin"] for table in tables]).astype(np.float64)
    lowest = np.stack([_lowest(found, table, item["threat"], setting) for table in tables])
    # Where an attack keeps the clean image of what it did not break, how near it came is seen by the others alone.
    close = np.where(np.stack(broken), margins >= -edge, np.minimum(margins, lowest) <= edge)
    near = close[0] & close[1]
    pixels = found.pixels[name] if setting == "served" else None
    return Repeated("attacked", name, setting, exact, right[0], right[1], broken[0] != broken[1], near, margins, pixels)


def _lowest(found: Repetition, table: Outcomes, threat: str, setting: str) -> NDArray[np.float64]:
    """The smallest margin (n,) that any of the repeated attacks of a threat reached."""
    names = [f"{item['threat']}/{item['name']}" for item in found.records if item["threat"] == threat]
    return np.min([table[f"{setting}/{name}/margin"] for name in names], axis=0)


def _corrupted(found: Repetition, predicate: Mapping[str, Any], *, exact: bool) -> Iterator[Repeated]:
    label, nowhere = found.then["label"], np.zeros(len(found.then), np.bool_)
    for name, severity, column in corruption_columns((predicate["corruptions"] or {"names": []})["names"]):
        then, now = found.then[column], found.others[column]
        title = f"{name}-{severity}"
        yield Repeated("corrupted", title, "served", exact, then == label, now == label, then != now, nowhere)


def _smoothed(found: Repetition, predicate: Mapping[str, Any], *, exact: bool) -> Iterator[Repeated]:
    for item in predicate["smoothing"]:
        name, label = item["name"], found.then["label"]
        if f"{name}/selected" not in found.others:
            continue
        tables = (found.then.columns, found.others)
        selected, successes, radius = (
            [table[f"{name}/{part}"] for table in tables] for part in ("selected", "successes", "radius")
        )
        right = [(chosen == label) & (far > 0) for chosen, far in zip(selected, radius, strict=True)]
        same = selected[0] == selected[1]
        near = same & (np.abs(successes[0] - successes[1]) <= VOTES * item["estimation"])
        yield Repeated(
            "smoothed", name, "reference", exact, right[0], right[1], ~same | (successes[0] != successes[1]), near
        )


def _proved(found: Repetition, predicate: Mapping[str, Any], *, exact: bool) -> Iterator[Repeated]:
    """A radius that is larger than what is proved here; elsewhere by no more than a step of the search."""
    for item in predicate["proofs"]:
        column = proof_column(item["norm"])
        if column in found.others:
            then, now = found.then[column], found.others[column]
            near = then - now <= item["tolerance_255"]
            yield Repeated("proved", item["name"], "served", exact, then > 0, now > 0, then > now, near)
