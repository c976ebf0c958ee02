"""Figures over a radius.

Certified accuracy of smoothed classifiers against the radius.

Accuracy against the size of the perturbation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.pages.figures.shares import SETTING_LEGEND, Claim, band, say, share_of, upright
from bundle.pages.svg import (
    CERTIFIED,
    SERVED,
    WIDTH,
    Scale,
    drawing,
    legend,
    line,
    marker,
    share_levels,
    text,
    value_ticks,
)


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
    parts = [share_levels(y, 54, WIDTH - 14), *value_ticks(x, 251)]
    for index, item in enumerate(classifiers):
        kind, left = f"{CERTIFIED} dash{index % 3}", 58 + 120 * index
        parts += [line(left, 10.5, left + 26, 10.5, f"curve {kind}"), text(left + 34, 15, f"σ = {item.sigma:g}")]
        places = [(x(radius), share_of(*_certified(item, radius))) for radius in np.linspace(0, largest, 81)]
        parts.append(band(places, y, kind))
        for radius in item.marks:
            share = share_of(*_certified(item, radius))
            if radius <= x.high:
                parts.append(marker(x(radius), y(share["value"]), CERTIFIED, f"radius {radius:g}: {say(share)}"))
    parts.append(text((54 + WIDTH - 14) / 2, 270, "l2 radius (pixel range = 1)", anchor="middle", kind="axis"))
    parts.append(text(14, y(0.5), "certified accuracy (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"σ {item.sigma:g}, radius {radius:g}: {say(share_of(*_certified(item, radius)))}"
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
    parts = [legend(SETTING_LEGEND, 58, 15), share_levels(y, 54, WIDTH - 14)]
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
