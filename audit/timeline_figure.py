"""The figure of `hallmark history`: clean, robust and certified accuracy over the versions, with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from audit.timeline import Moment
from bundle.figures.shares import SETTING_LEGEND, say, upright
from bundle.outcomes import SETTINGS
from bundle.report import STYLE
from bundle.svg import CERTIFIED, WIDTH, Scale, drawing, legend, line, share_levels, shortened, text
from bundle.wording import threat_title

LEFT, RIGHT, TOP, HEIGHT = 62.0, WIDTH - 18.0, 34.0, 160.0
#: How many names stand under the axis.
MOST_NAMES = 8

Share = Mapping[str, Any]
#: (number of the moment, share, what it is of): only neighbours of the same are joined.
Point = tuple[int, Share, object]


def timeline_html(moments: Sequence[Moment]) -> str:
    """One self-contained page with the three figures; the same to the byte for the same versions."""
    figures = "".join(f"<figure>{figure}</figure>" for figure in _figures(moments))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Versions</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        '<header class="page-header"><h1>Robustness over the versions</h1></header><main class="report">'
        f'{figures}<p class="caption">{escape(_caption(moments))}</p></main></body></html>\n'
    )


def timeline_svg(moments: Sequence[Moment]) -> str:
    """One SVG file with the three figures below one another; it brings its own style."""
    figures = list(_figures(moments))
    height = TOP + HEIGHT + 50
    placed = [
        figure.replace('class="figure" ', f'y="{number * height:g}" width="{WIDTH}" height="{height:g}" ', 1)
        for number, figure in enumerate(figures)
    ]
    total = height * len(figures)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" width="{WIDTH}" height="{total:g}">'
        f"<style>{escape(STYLE, quote=False)} svg {{ background: var(--ground); font-family: system-ui, sans-serif; }}</style>"
        f'<g class="report">{"".join(placed)}</g></svg>\n'
    )


def _figures(moments: Sequence[Moment]) -> Iterator[str]:
    tops = [moment.numbers for moment in moments]
    data = [top["data"] for top in tops]
    threats = [(top["data"], top["robust"]["threat"]) for top in tops]
    named = list(dict.fromkeys(threat_title(_threat(moment)) for moment in moments))
    robust = f"Right under all attacks ({', '.join(named)}), an upper bound"
    for key, metric, title, same in (("clean", "clean", "Clean accuracy", data), ("robust", "robust", robust, threats)):
        series = {kind: _points([top[metric][kind] for top in tops], same) for kind in SETTINGS}
        yield _figure(key, title, moments, series)
    bounds = [top["certified"] for top in tops]
    certified = _points(bounds, [bound and (bound["classifier"], bound["radius"]) for bound in bounds])
    if certified:
        yield _figure("certified", "Certified, the smoothed classifier, a lower bound", moments, {CERTIFIED: certified})


def _threat(moment: Moment) -> Mapping[str, Any]:
    assert moment.version.statement is not None
    name = moment.numbers["robust"]["threat"]
    return next(item for item in moment.version.statement["predicate"]["threats"] if item["name"] == name)


def _points(shares: Sequence[Share | None], keys: Sequence[object]) -> list[Point]:
    found = enumerate(zip(shares, keys, strict=True))
    return [(number, share, key) for number, (share, key) in found if share is not None]


def _figure(key: str, title: str, moments: Sequence[Moment], series: Mapping[str, Sequence[Point]]) -> str:
    x, y = Scale(-0.5, len(moments) - 0.5, LEFT, RIGHT), Scale(0, 1, TOP + HEIGHT, TOP)
    shift = {kind: 7.0 * number - 3.5 * (len(series) - 1) for number, kind in enumerate(series)}
    parts = [text(LEFT, 15, shortened(title, 58), kind="label"), share_levels(y, LEFT, RIGHT)]
    words: list[str] = []
    for kind, points in series.items():
        for (first, one, before), (second, other, after) in pairwise(points):
            if before == after and second == first + 1:  # another threat is another number
                start, end = x(first) + shift[kind], x(second) + shift[kind]
                parts.append(line(start, y(one["value"]), end, y(other["value"]), f"curve {kind}"))
        for number, share, _ in points:
            note = f"{moments[number].label}, {kind}: {say(share)}"
            words.append(note)
            parts.append(upright(x(number) + shift[kind], y, share, kind, note))
    parts += _names(moments, x)
    if len(series) > 1:
        parts.append(legend(SETTING_LEGEND, LEFT, TOP + HEIGHT + 40))
    return drawing(f"history-{key}", title, "; ".join(words), TOP + HEIGHT + 50, parts)


def _names(moments: Sequence[Moment], x: Scale) -> list[str]:
    """The labels of at most MOST_NAMES versions, the last one always among them."""
    step = -(-len(moments) // MOST_NAMES)
    shown = [number for number in range(len(moments)) if (len(moments) - 1 - number) % step == 0]
    room = max(int((RIGHT - LEFT) / len(shown) / 7), 4)
    return [
        text(x(number), TOP + HEIGHT + 17, shortened(moments[number].label, room), anchor="middle", kind="tick")
        for number in shown
    ]


def _caption(moments: Sequence[Moment]) -> str:
    last = moments[-1].label
    return (
        f"{len(moments)} attestations, the last one {last}. Whiskers: 95 % Clopper-Pearson intervals, for the drawing of "
        "images. A line joins neighbours of the same data and threat alone."
    )
