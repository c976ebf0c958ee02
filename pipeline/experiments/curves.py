"""Robust accuracy by epoch, ours on the validation split beside published training curves: one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from bundle.pages.svg import Scale, drawing, level_grid, line, path, round_step, text, value_ticks
from pipeline.experiments.published import PublishedCurve
from pipeline.experiments.result import Result
from pipeline.experiments.scatter import spread_apart

LEFT, RIGHT, TOP, BOTTOM = 46.0, 262.0, 14.0, 300.0
STYLES = ("solid", "dashed", "dotted")
STYLE = """<style>
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
    x, y = Scale(0, last, LEFT, RIGHT), Scale(0, (int(highest / step) + 1) * step, BOTTOM, TOP)
    levels = [(tick * step, f"{100 * tick * step:g}") for tick in range(int(highest / step) + 2)]
    parts = [STYLE, *level_grid(y, levels, LEFT, RIGHT), *value_ticks(x, BOTTOM + 15), *_lines(curves, x, y)]
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 32, "epoch", anchor="middle", kind="axis"))
    parts.append(text(12, (TOP + BOTTOM) / 2, "right under PGD-10 (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"{name}: {100 * points[-1][1]:.1f} % after epoch {points[-1][0]:g}" for name, _, points in curves
    )
    return drawing("curves", "Robust accuracy on held-out images by epoch", words, BOTTOM + 40, parts) + "\n"


def _lines(curves: Sequence[Curve], x: Scale, y: Scale) -> list[str]:
    ordered = sorted(curves, key=lambda curve: -curve[2][-1][1])
    places = spread_apart([y(points[-1][1]) for _, _, points in ordered])
    parts: list[str] = []
    for (name, look, points), place in zip(ordered, places, strict=True):
        parts.append(path([(x(epoch), y(share)) for epoch, share in points], look))
        parts.append(line(x(points[-1][0]), y(points[-1][1]), RIGHT + 12, place, "leader"))
        parts.append(text(RIGHT + 15, place + 4, name))
    return parts
