"""Figures of accuracy along an axis: the proved radius, the size of the perturbation, the versions of a model.

Certified accuracy of smoothed classifiers against the radius; accuracy under attack against eps; clean, robust and
certified accuracy over versions, one figure per metric.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.pages.figures.accuracy import SETTING_LEGEND, Claim, accuracy_of, band, say, upright
from bundle.pages.svg import (
    CERTIFIED,
    SERVED,
    WIDTH,
    Scale,
    drawing,
    legend,
    line,
    marker,
    percent_levels,
    shortened,
    text,
    value_ticks,
)
from bundle.pages.wording import SHOWN, headline_threat_title


@dataclass(frozen=True)
class Certified:
    """A smoothed classifier: sigma, the l2 radius proved for each image (0 where it is wrong), the attested radii."""

    sigma: float
    radii: NDArray[np.float64]
    marks: Sequence[float]


def certified_curve(classifiers: Sequence[Certified]) -> str:
    """Certified accuracy of each smoothed classifier against the l2 radius, with its interval."""
    largest = max(float(item.radii.max()) for item in classifiers) or 1.0
    x, y = Scale(0, largest * 1.02, 54, WIDTH - 14), Scale(0, 1, 234, 34)
    parts = [percent_levels(y, 54, WIDTH - 14), *value_ticks(x, 251)]
    for index, item in enumerate(classifiers):
        kind, left = f"{CERTIFIED} dash{index % 3}", 58 + 120 * index
        parts += [line(left, 10.5, left + 26, 10.5, f"curve {kind}"), text(left + 34, 15, f"σ = {item.sigma:g}")]
        places = [(x(radius), accuracy_of(*_certified(item, radius))) for radius in np.linspace(0, largest, 81)]
        parts.append(band(places, y, kind))
        for radius in item.marks:
            accuracy = accuracy_of(*_certified(item, radius))
            if radius <= x.high:
                parts.append(marker(x(radius), y(accuracy["value"]), CERTIFIED, f"radius {radius:g}: {say(accuracy)}"))
    parts.append(text((54 + WIDTH - 14) / 2, 270, "l2 radius (pixel range = 1)", anchor="middle", kind="axis"))
    parts.append(text(14, y(0.5), "certified accuracy (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"σ {item.sigma:g}, radius {radius:g}: {say(accuracy_of(*_certified(item, radius)))}"
        for item in classifiers
        for radius in item.marks
    )
    return drawing("certified", "Certified accuracy of the smoothed classifier by l2 radius", words, 278, parts)


def _certified(item: Certified, radius: float) -> tuple[int, int]:
    """How many images are certified at this radius, as claims() counts them, and how many there are."""
    return int(((item.radii > 0) & (item.radii >= radius)).sum()), len(item.radii)


def by_eps(
    points: Mapping[str, Sequence[tuple[float, Claim]]],
    norm: str = "linf",
    lighter: Collection[float] = (),
    lighter_name: str = "margin attack alone",
) -> str:
    """Accuracy under all attacks against eps; `points` by setting, (eps, claim), the first at eps 0.

    eps is in 255ths for l∞, for images in [0, 1] for l2 and l1. One threat gives two points, which no line joins.
    `lighter` are the radii that AutoAttack did not judge: their points are hollow, and the legend says by what they
    were judged, `lighter_name`.
    """
    unit = "/255" if norm == "linf" else ""
    axis = "l∞, 255ths of the pixel range" if norm == "linf" else f"{norm}, pixel range = 1"
    largest = max(eps for eps, _ in points[SERVED])
    top = 54 if lighter else 34
    x, y = Scale(0, largest, 66, WIDTH - 26), Scale(0, 1, top + 200, top)
    parts = [legend(SETTING_LEGEND, 58, 15), percent_levels(y, 54, WIDTH - 14)]
    if lighter:
        parts += [marker(64, 30.5, SERVED, hollow=True), text(74, 35, lighter_name)]
    if lighter and any(eps not in lighter for eps, _ in points[SERVED][1:]):
        parts += [marker(254, 30.5, SERVED), text(264, 35, "with AutoAttack")]
    for shift, (kind, series) in zip((-3.5, 3.5), points.items(), strict=True):
        if len(series) > 2:
            parts.append(band([(x(eps) + shift, claim) for eps, claim in series], y, kind))
        for eps, claim in series:
            note = f"ε {eps:g}{unit}, {kind}: {say(claim)}" + (f", {lighter_name}" if eps in lighter else "")
            parts.append(upright(x(eps) + shift, y, claim, kind, note, hollow=eps in lighter))
    ticks = _ticks(x, [eps for eps, _ in points[SERVED]])
    parts += [text(place, top + 217, label, anchor="middle", kind="tick") for place, label in ticks]
    parts.append(text(x(largest / 2), top + 236, f"perturbation size ε ({axis})", anchor="middle", kind="axis"))
    parts.append(text(14, y(0.5), "right under all attacks (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"ε {eps:g}{unit} {kind}{f' ({lighter_name})' if eps in lighter else ''}: {say(claim)}"
        for kind, series in points.items()
        for eps, claim in series
    )
    return drawing("by-eps", "Accuracy under all attacks against ε", words, top + 244, parts)


def _ticks(x: Scale, radii: Sequence[float]) -> list[tuple[float, str]]:
    """Places and labels of the radii, without those that would run into the one before."""
    ticks: list[tuple[float, str]] = []
    for eps in radii:
        if not ticks or x(eps) - ticks[-1][0] >= 26:
            ticks.append((x(eps), f"{eps:g}"))
    return ticks


LEFT, RIGHT, TOP, BOTTOM = 62.0, WIDTH - 18.0, 34.0, 194.0
#: Height of each figure in its own pixels.
VERSIONS_HEIGHT = BOTTOM + 50
#: How many names stand under the axis.
MOST_NAMES = 8

#: (number of the version, accuracy, what it is of): only neighbours of the same are joined.
Point = tuple[int, Claim, object]


@dataclass(frozen=True)
class Entry:
    """One attestation: its name on the axis, and its numbers as bundle.pages.headline.headline() gives them."""

    label: str
    numbers: Mapping[str, Any]


def over_versions(entries: Sequence[Entry]) -> Iterator[str]:
    """Two figures, and a third where something is certified; `entries` in the order of the axis, at least one."""
    tops = [entry.numbers for entry in entries]
    data = [top["data"] for top in tops]
    attacked = [(top["data"], top["robust"]["threat"], top["tier"]) for top in tops]
    named = list(dict.fromkeys(headline_threat_title(top["robust"]) for top in tops))
    robust = f"Right under all attacks ({', '.join(named)}), an upper bound"
    for metric, title, same in (("clean", "Clean accuracy", data), ("robust", robust, attacked)):
        series = {kind: _points([top[metric][kind] for top in tops], same) for kind in SHOWN}
        yield _figure(metric, title, entries, series)
    bounds = [top["certified"] for top in tops]
    proved = [
        bound and (top["data"], bound["classifier"], bound["radius"]) for top, bound in zip(tops, bounds, strict=True)
    ]
    certified = _points(bounds, proved)
    if certified:
        yield _figure("certified", "Certified, the smoothed classifier, a lower bound", entries, {CERTIFIED: certified})


def _points(accuracies: Sequence[Claim | None], keys: Sequence[object]) -> list[Point]:
    found = enumerate(zip(accuracies, keys, strict=True))
    return [(number, accuracy, key) for number, (accuracy, key) in found if accuracy is not None]


def _figure(key: str, title: str, entries: Sequence[Entry], series: Mapping[str, Sequence[Point]]) -> str:
    x, y = Scale(-0.5, len(entries) - 0.5, LEFT, RIGHT), Scale(0, 1, BOTTOM, TOP)
    parts = [text(LEFT, 15, shortened(title, 58), kind="label"), percent_levels(y, LEFT, RIGHT), *_names(entries, x)]
    words: list[str] = []
    for place, (kind, points) in enumerate(series.items()):
        shift = 12.0 * place - 6.0 * (len(series) - 1)
        notes = [f"{entries[number].label}, {kind}: {say(accuracy)}" for number, accuracy, _ in points]
        parts += _joined(points, x, y, shift, kind)
        parts += [
            upright(x(number) + shift, y, accuracy, kind, note)
            for (number, accuracy, _), note in zip(points, notes, strict=True)
        ]
        words += notes
    if len(series) > 1:
        parts.append(legend(SETTING_LEGEND, LEFT, BOTTOM + 40))
    return drawing(f"history-{key}", title, "; ".join(words), VERSIONS_HEIGHT, parts)


def _joined(points: Sequence[Point], x: Scale, y: Scale, shift: float, kind: str) -> Iterator[str]:
    """Lines between neighbours of the same: another data set, threat or tier gives another number."""
    for (first, one, before), (second, other, after) in pairwise(points):
        if before == after and second == first + 1:
            start, end = x(first) + shift, x(second) + shift
            yield line(start, y(one["value"]), end, y(other["value"]), f"curve {kind}")


def _names(entries: Sequence[Entry], x: Scale) -> list[str]:
    """The labels of at most MOST_NAMES versions, the last one always among them."""
    step = -(-len(entries) // MOST_NAMES)
    shown = [number for number in range(len(entries)) if (len(entries) - 1 - number) % step == 0]
    room = max(int((RIGHT - LEFT) / len(shown) / 7), 4)
    return [
        text(x(number), BOTTOM + 17, shortened(entries[number].label, room), anchor="middle", kind="tick")
        for number in shown
    ]
