"""The two pictures of the experiments: clean against robust accuracy, one marker per method; robust accuracy by epoch.

By epoch: ours on the validation split beside published training curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

from bundle.pages.svg import REFERENCE, Scale, drawing, level_grid, line, marker, path, round_step, text, value_ticks
from pipeline.experiments.comparison import BASELINE, Row, SeedSpread
from pipeline.experiments.published import PublishedCurve
from pipeline.experiments.result import Result

LEFT, RIGHT, TOP, BOTTOM, NAMES = 52.0, 300.0, 16.0, 300.0, 324.0
#: Between the lines of names.
LINE = 15.0
#: A picture by itself brings its own style; it follows light and dark as the report does.
SCATTER_STYLE = """<style>
svg { --ground: #ffffff; --ink: #1b2026; --muted: #56606b; --grid: #e2e7eb; --mark: #d55e00; background: var(--ground);
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #14181c; --ink: #e7eaed; --muted: #a6b0ba; --grid: #2a3138; --mark: #f0883e; } }
text { fill: var(--ink); } .tick, .axis { fill: var(--muted); font-size: 11px; }
.grid { stroke: var(--grid); } .whisker { stroke: var(--mark); stroke-width: 1.5; opacity: 0.45; }
.leader { stroke: var(--muted); stroke-width: 0.6; opacity: 0.7; } .fill { fill: var(--mark); stroke: var(--ground); }
</style>"""


CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 46.0, 262.0, 14.0, 300.0


STYLES = ("solid", "dashed", "dotted")


CURVE_STYLE = """<style>
svg { --ground: #ffffff; --ink: #1b2026; --muted: #56606b; --grid: #e2e7eb; --ours: #0b62a4; --theirs: #d55e00;
  background: var(--ground); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #14181c; --ink: #e7eaed; --muted: #a6b0ba; --grid: #2a3138; --ours: #6db3f2; --theirs: #f0883e; } }
text { fill: var(--ink); } .tick, .axis { fill: var(--muted); } .grid { stroke: var(--grid); }
path { fill: none; stroke-width: 1.6; } .ours { stroke: var(--ours); } .theirs { stroke: var(--theirs); }
.dashed { stroke-dasharray: 5 3; } .dotted { stroke-dasharray: 1.5 2.5; }
.leader { stroke: var(--muted); stroke-width: 0.6; opacity: 0.7; }
</style>"""


Curve = tuple[str, str, Sequence[tuple[float, float]]]


def scatter(rows: Sequence[Row], caption: str) -> str:
    """An SVG file. No defence is named below, not drawn: the axes would have to reach down to it.

    Axes begin and end at round numbers around the whiskers, so that methods stand apart; their ticks say so.
    """
    drawn = [row for row in rows if row.name != BASELINE] or list(rows)
    x = _axis([row.clean for row in drawn], LEFT, RIGHT)
    y = _axis([row.judged() for row in drawn], BOTTOM, TOP)
    parts = [SCATTER_STYLE, *_grid(x, y)]
    drawn = sorted(drawn, key=lambda row: -row.judged().mean)
    for row, place in zip(drawn, spread_apart([y(row.judged().mean) for row in drawn]), strict=True):
        parts += _point(row, x, y, place)
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 34, "clean accuracy (%)", anchor="middle", kind="axis"))
    parts.append(text(14, (TOP + BOTTOM) / 2, "robust accuracy (%)", anchor="middle", kind="axis", turn=True))
    floor = [row for row in rows if row not in drawn]
    parts += [text(LEFT, BOTTOM + 54, f"{_words(row)}, not drawn", kind="axis") for row in floor]
    words = "; ".join(_words(row) for row in rows)
    return drawing("comparison", f"Clean and robust accuracy: {caption}", words, BOTTOM + 62, parts)


def _axis(spreads: Sequence[SeedSpread], start: float, end: float) -> Scale:
    """Round numbers around the whiskers; a single value gets a step of room on either side."""
    low, high = min(item.low for item in spreads), max(item.high for item in spreads)
    step = round_step(max(high - low, 0.01), 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    return Scale(max(0.0, first * step), min(1.0, last * step), start, end)


def _grid(x: Scale, y: Scale) -> list[str]:
    parts: list[str] = []
    for tick in _ticks(x):
        parts.append(line(x(tick), TOP, x(tick), BOTTOM, "grid"))
        parts.append(text(x(tick), BOTTOM + 16, f"{100 * tick:g}", anchor="middle", kind="tick"))
    for tick in _ticks(y):
        parts.append(line(LEFT, y(tick), RIGHT, y(tick), "grid"))
        parts.append(text(LEFT - 7, y(tick) + 4, f"{100 * tick:g}", anchor="end", kind="tick"))
    return parts


def _ticks(scale: Scale) -> list[float]:
    step = round_step(scale.high - scale.low, 6)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [round(number * step, 6) for number in range(first, last + 1)]


def _point(row: Row, x: Scale, y: Scale, place: float) -> list[str]:
    across, up = x(row.clean.mean), y(row.judged().mean)
    return [
        line(across, up, NAMES - 4, place, "leader"),
        line(x(row.clean.low), up, x(row.clean.high), up, "whisker"),
        line(across, y(row.judged().low), across, y(row.judged().high), "whisker"),
        marker(across, up, REFERENCE, _words(row)),
        text(NAMES, place + 4, row.name),
    ]


def spread_apart(wanted: Sequence[float]) -> list[float]:
    """Places for names, near the wanted heights (ascending) and a line apart."""
    places: list[float] = []
    for number, height in enumerate(wanted):
        highest = BOTTOM - LINE * (len(wanted) - 1 - number)
        places.append(max(min(height, highest), places[-1] + LINE if places else TOP))
    return places


def _words(row: Row) -> str:
    return f"{row.title}: clean {row.clean.say()} %, robust {row.judged().say()} %"


def draw_curves(runs: Sequence[Result], published: Sequence[PublishedCurve]) -> str | None:
    """An SVG file; None without runs. Published curves are drawn as far as the longest of ours reaches.

    Ours: PGD-10 on the validation split, the seeds of an experiment in one look. Theirs: as the source says.
    """
    if not runs:
        return None
    last = max(point.epoch for run in runs for point in run.curve)
    looks = dict(zip(dict.fromkeys(run.name for run in runs), cycle(STYLES)))
    curves: list[Curve] = [
        (
            f"{run.name}, seed {run.seed}",
            f"ours {looks[run.name]}",
            [(point.epoch, point.pgd_10) for point in run.curve],
        )
        for run in runs
    ]
    for curve in published:
        points = [(epoch, robust / 100) for epoch, _, robust in curve.points if epoch <= last]
        curves.append((f"{curve.network}, {curve.method}, published", "theirs solid", points))
    highest = max(share for _, _, points in curves for _, share in points)
    step = round_step(highest, 6)
    x, y = Scale(0, last, CURVE_LEFT, CURVE_RIGHT), Scale(0, (int(highest / step) + 1) * step, CURVE_BOTTOM, CURVE_TOP)
    levels = [(tick * step, f"{100 * tick * step:g}") for tick in range(int(highest / step) + 2)]
    parts = [
        CURVE_STYLE,
        *level_grid(y, levels, CURVE_LEFT, CURVE_RIGHT),
        *value_ticks(x, CURVE_BOTTOM + 15),
        *_lines(curves, x, y),
    ]
    parts.append(text((CURVE_LEFT + CURVE_RIGHT) / 2, CURVE_BOTTOM + 32, "epoch", anchor="middle", kind="axis"))
    parts.append(
        text(12, (CURVE_TOP + CURVE_BOTTOM) / 2, "right under PGD-10 (%)", anchor="middle", kind="axis", turn=True)
    )
    words = "; ".join(
        f"{name}: {100 * points[-1][1]:.1f} % after epoch {points[-1][0]:g}" for name, _, points in curves
    )
    return drawing("curves", "Robust accuracy on held-out images by epoch", words, CURVE_BOTTOM + 40, parts) + "\n"


def _lines(curves: Sequence[Curve], x: Scale, y: Scale) -> list[str]:
    ordered = sorted(curves, key=lambda curve: -curve[2][-1][1])
    places = spread_apart([y(points[-1][1]) for _, _, points in ordered])
    parts: list[str] = []
    for (name, look, points), place in zip(ordered, places, strict=True):
        parts.append(path([(x(epoch), y(share)) for epoch, share in points], look))
        parts.append(line(x(points[-1][0]), y(points[-1][1]), CURVE_RIGHT + 12, place, "leader"))
        parts.append(text(CURVE_RIGHT + 15, place + 4, name))
    return parts
