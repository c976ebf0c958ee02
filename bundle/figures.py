"""The report's figures: pure functions from claims and columns to SVG, drawn to be read by anyone.

Shares run from 0 to 100 % on every axis, whiskers and bands are 95 % Clopper-Pearson intervals, settings differ in
shape as well as in colour, and each figure says its numbers in words for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.intervals import clopper_pearson
from bundle.svg import (
    CERTIFIED,
    REFERENCE,
    SERVED,
    WIDTH,
    Scale,
    bar,
    drawing,
    legend,
    line,
    marker,
    path,
    round_step,
    share_grid,
    share_levels,
    shortened,
    text,
)
from bundle.wording import interval, percent

Claim = Mapping[str, Any]
SETTING_LEGEND = ((REFERENCE, "reference"), (SERVED, "served"))
#: Classes that the figure by class shows at most: the worst ones.
CLASSES_SHOWN = 20


def share_of(correct: int, size: int) -> dict[str, Any]:
    """A share with its interval, in the form of a claim, for numbers that are drawn but not claimed."""
    return {"value": correct / size, "correct": correct, "sampleSize": size, "interval": clopper_pearson(correct, size)}


def say(claim: Claim) -> str:
    """A share in words: `87.0 % (174 of 200; 81.5 to 91.3 %)`."""
    return f"{percent(claim['value'])} ({claim['correct']} of {claim['sampleSize']}; {interval(claim)})"


def strip(claim: Claim, kind: str) -> str:
    """A share on a line from 0 to 100 % with its interval: the small picture under a headline number."""
    x = Scale(0, 1, 4, 196)
    lower, upper = claim["interval"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 200 12" aria-hidden="true">'
        f"{line(4, 6, 196, 6, 'grid')}{line(x(lower), 6, x(upper), 6, f'whisker wide {kind}')}"
        f"{marker(x(claim['value']), 6, kind, size=3.5)}</svg>"
    )


def by_attack(rows: Sequence[tuple[str, Claim, Claim]], threat: str) -> str:
    """Accuracy by attack with intervals; a row is (name, claim in reference, claim in served)."""
    x, top, step = Scale(0, 1, 112, WIDTH - 66), 34, 30
    bottom = top + step * len(rows)
    parts = [
        legend(SETTING_LEGEND, 104, 15),
        text(WIDTH - 4, 15, "served", anchor="end", kind="tick"),
        share_grid(x, top, bottom),
    ]
    for index, (name, reference, served) in enumerate(rows):
        middle = top + step * (index + 0.5)
        parts.append(text(104, middle + 4, shortened(name, 13), anchor="end"))
        parts.append(_whisker(x, middle - 6, reference, REFERENCE, f"{name}, reference: {say(reference)}"))
        parts.append(_whisker(x, middle + 6, served, SERVED, f"{name}, served: {say(served)}"))
        parts.append(text(WIDTH - 4, middle + 4, percent(served["value"]), anchor="end", kind="value"))
    parts.append(text(x(0.5), bottom + 36, f"images still right, {threat} (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{name}: reference {say(reference)}, served {say(served)}" for name, reference, served in rows)
    return drawing("by-attack", f"Accuracy by attack at {threat}", words, bottom + 44, parts)


def _whisker(x: Scale, y: float, claim: Claim, kind: str, note: str) -> str:
    lower, upper = claim["interval"]
    return line(x(lower), y, x(upper), y, f"whisker {kind}") + marker(x(claim["value"]), y, kind, note)


def by_eps(points: Mapping[str, Sequence[tuple[float, Claim]]], norm: str = "linf") -> str:
    """Accuracy under all attacks against eps; `points` by setting, (eps, claim), the first at eps 0.

    eps is in 255ths for l∞, for images in [0, 1] for l2 and l1. One threat gives two points, which no line joins.
    """
    unit = "/255" if norm == "linf" else ""
    axis = "l∞, 255ths of the pixel range" if norm == "linf" else f"{norm}, pixel range = 1"
    largest = max(eps for eps, _ in points[SERVED])
    x, y = Scale(0, largest, 66, WIDTH - 26), Scale(0, 1, 234, 34)
    parts = [legend(SETTING_LEGEND, 58, 15), share_levels(y, 54, WIDTH - 14)]
    for shift, (kind, series) in zip((-3.5, 3.5), points.items(), strict=True):
        if len(series) > 2:
            parts.append(_band([(x(eps) + shift, claim) for eps, claim in series], y, kind))
        for eps, claim in series:
            parts.append(_upright(x(eps) + shift, y, claim, kind, f"ε {eps:g}{unit}, {kind}: {say(claim)}"))
    parts += [text(place, 251, label, anchor="middle", kind="tick") for place, label in _eps_ticks(x, points[SERVED])]
    parts.append(text(x(largest / 2), 270, f"perturbation size ε ({axis})", anchor="middle", kind="axis"))
    parts.append(text(14, y(0.5), "right under all attacks (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"ε {eps:g}{unit} {kind}: {say(claim)}" for kind, series in points.items() for eps, claim in series
    )
    return drawing("by-eps", "Accuracy under all attacks against ε", words, 278, parts)


def _band(places: Sequence[tuple[float, Claim]], y: Scale, kind: str) -> str:
    upper = [(x, y(claim["interval"][1])) for x, claim in places]
    lower = [(x, y(claim["interval"][0])) for x, claim in reversed(places)]
    middle = [(x, y(claim["value"])) for x, claim in places]
    return path([*upper, *lower], f"band {kind}", closed=True) + path(middle, f"curve {kind}")


def _upright(x: float, y: Scale, claim: Claim, kind: str, note: str) -> str:
    lower, upper = claim["interval"]
    return line(x, y(lower), x, y(upper), f"whisker {kind}") + marker(x, y(claim["value"]), kind, note)


def _eps_ticks(x: Scale, series: Sequence[tuple[float, Claim]]) -> list[tuple[float, str]]:
    ticks: list[tuple[float, str]] = []
    for eps, _ in series:
        if not ticks or x(eps) - ticks[-1][0] >= 26:
            ticks.append((x(eps), f"{eps:g}"))
    return ticks


@dataclass(frozen=True)
class ClassShare:
    """How one class fares: images right under all attacks, right when clean, and in all; size ≥ 1."""

    name: str
    robust: int
    clean: int
    size: int


def by_class(shares: Sequence[ClassShare]) -> str:
    """Accuracy under all attacks by class, worst first, at most CLASSES_SHOWN; a tick marks the clean accuracy."""
    shown = sorted(shares, key=lambda share: share.robust / share.size)[:CLASSES_SHOWN]
    left = min(140.0, 24 + 7.6 * max(len(share.name) for share in shown))
    x, top, step = Scale(0, 1, left, WIDTH - 66), 34, 22
    bottom = top + step * len(shown)
    parts = [bar(left, 6, 14, 9, SERVED), text(left + 20, 15, "under all attacks")]
    parts += [line(left + 150, 4, left + 150, 17, "clean"), text(left + 158, 15, "clean")]
    parts += [share_grid(x, top, bottom), text(WIDTH - 4, 15, "right/all", anchor="end", kind="tick")]
    for index, share in enumerate(shown):
        parts.append(_class_row(x, top + step * (index + 0.5), share))
    parts.append(text(x(0.5), bottom + 36, "images of the class still right (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{share.name}: {say(share_of(share.robust, share.size))}" for share in shown)
    return drawing("by-class", "Accuracy under all attacks by class", words, bottom + 44, parts)


def _class_row(x: Scale, middle: float, share: ClassShare) -> str:
    robust, clean = share_of(share.robust, share.size), share_of(share.clean, share.size)
    lower, upper = robust["interval"]
    note = f"{share.name}: {say(robust)}; clean {say(clean)}"
    return "".join(
        [
            text(x.start - 8, middle + 4, shortened(share.name, 16), anchor="end"),
            bar(x(0), middle - 7, x(robust["value"]) - x(0), 14, SERVED, note),
            line(x(lower), middle, x(upper), middle, "whisker"),
            line(x(clean["value"]), middle - 9, x(clean["value"]), middle + 9, "clean"),
            text(WIDTH - 4, middle + 4, f"{share.robust}/{share.size}", anchor="end", kind="value"),
        ]
    )


def margin_histogram(margins: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> str:
    """How far images are from another answer; lowest margins under attack (N,) in logits, verdicts right (N,)."""
    edges = _edges(margins)
    held, broken = (np.histogram(margins[rows], edges)[0] for rows in (right, ~right))
    most = int((held + broken).max())
    x, y = Scale(edges[0], edges[-1], 54, WIDTH - 14), Scale(0, most * 1.06, 234, 34)
    parts = [bar(58, 6, 14, 9, "broken"), text(78, 15, f"wrong ({int((~right).sum())})")]
    parts += [bar(190, 6, 14, 9, SERVED), text(210, 15, f"still right ({int(right.sum())})")]
    parts += _count_levels(y, most)
    for left, end, low, high in zip(edges[:-1], edges[1:], broken, held, strict=True):
        note, width = f"margin {left:g} to {end:g}: {low} wrong, {high} right", x(end) - x(left) - 1
        for count, base, kind in ((low, 0, "broken"), (high, low, SERVED)):
            if count:
                parts.append(bar(x(left) + 0.5, y(base + count), width, y(base) - y(base + count), kind, note))
    parts += [line(x(0), 26, x(0), 234, "zero"), *_value_ticks(x, 251)]
    parts.append(
        text(
            (54 + WIDTH - 14) / 2,
            270,
            "lowest margin under attack (difference of logits)",
            anchor="middle",
            kind="axis",
        )
    )
    parts.append(text(14, 134, "images", anchor="middle", kind="axis", turn=True))
    words = f"{int((~right).sum())} of {len(margins)} images are wrong. The median margin is {np.median(margins):.2f}."
    return drawing("margins", "Lowest margins under attack", words, 278, parts)


def _edges(margins: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Bin edges of a round width, zero among them: no bin holds both signs."""
    low, high = min(float(margins.min()), 0.0), max(float(margins.max()), 0.0)
    width = round_step(max(high - low, 1e-3), 24)
    first, last = int(np.floor(low / width)), int(np.floor(high / width)) + 1
    return np.arange(first, last + 1, dtype=np.float64) * width


def _count_levels(y: Scale, most: int) -> list[str]:
    step = max(1, round(round_step(max(most, 1), 5)))
    parts: list[str] = []
    for tick in range(0, most + 1, step):
        parts += [
            line(54, y(tick), WIDTH - 14, y(tick), "grid"),
            text(47, y(tick) + 4, str(tick), anchor="end", kind="tick"),
        ]
    return parts


def _value_ticks(x: Scale, baseline: float) -> list[str]:
    step = round_step(x.high - x.low, 7)
    first, last = int(np.ceil(x.low / step - 1e-9)), int(np.floor(x.high / step + 1e-9))
    values = [tick * step for tick in range(first, last + 1)]
    return [text(x(value), baseline, f"{value:g}".replace("-", "−"), anchor="middle", kind="tick") for value in values]


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
    parts = [share_levels(y, 54, WIDTH - 14), *_value_ticks(x, 251)]
    for index, item in enumerate(classifiers):
        kind, left = f"{CERTIFIED} dash{index % 3}", 58 + 120 * index
        parts += [line(left, 10.5, left + 26, 10.5, f"curve {kind}"), text(left + 34, 15, f"σ = {item.sigma:g}")]
        places = [(x(radius), share_of(*_certified(item, radius))) for radius in np.linspace(0, largest, 81)]
        parts.append(_band(places, y, kind))
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
