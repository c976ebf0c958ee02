"""Clean, robust and certified accuracy over versions, with their intervals: one figure a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bundle.pages.figures.shares import SETTING_LEGEND, say, upright
from bundle.pages.svg import CERTIFIED, WIDTH, Scale, drawing, legend, line, share_levels, shortened, text
from bundle.pages.wording import headline_threat_title
from bundle.table.outcomes import SETTINGS

LEFT, RIGHT, TOP, BOTTOM = 62.0, WIDTH - 18.0, 34.0, 194.0
#: Height of each figure in its own pixels.
VERSIONS_HEIGHT = BOTTOM + 50
#: How many names stand under the axis.
MOST_NAMES = 8

Share = Mapping[str, Any]
#: (number of the version, share, what it is of): only neighbours of the same are joined.
Point = tuple[int, Share, object]


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
        series = {kind: _points([top[metric][kind] for top in tops], same) for kind in SETTINGS}
        yield _figure(metric, title, entries, series)
    bounds = [top["certified"] for top in tops]
    proved = [
        bound and (top["data"], bound["classifier"], bound["radius"]) for top, bound in zip(tops, bounds, strict=True)
    ]
    certified = _points(bounds, proved)
    if certified:
        yield _figure("certified", "Certified, the smoothed classifier, a lower bound", entries, {CERTIFIED: certified})


def _points(shares: Sequence[Share | None], keys: Sequence[object]) -> list[Point]:
    found = enumerate(zip(shares, keys, strict=True))
    return [(number, share, key) for number, (share, key) in found if share is not None]


def _figure(key: str, title: str, entries: Sequence[Entry], series: Mapping[str, Sequence[Point]]) -> str:
    x, y = Scale(-0.5, len(entries) - 0.5, LEFT, RIGHT), Scale(0, 1, BOTTOM, TOP)
    parts = [text(LEFT, 15, shortened(title, 58), kind="label"), share_levels(y, LEFT, RIGHT), *_names(entries, x)]
    words: list[str] = []
    for place, (kind, points) in enumerate(series.items()):
        shift = 12.0 * place - 6.0 * (len(series) - 1)
        notes = [f"{entries[number].label}, {kind}: {say(share)}" for number, share, _ in points]
        parts += _joined(points, x, y, shift, kind)
        parts += [
            upright(x(number) + shift, y, share, kind, note)
            for (number, share, _), note in zip(points, notes, strict=True)
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
