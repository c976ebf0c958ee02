"""Certified accuracy of smoothed classifiers against the radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.figures.shares import band, say, share_of
from bundle.svg import CERTIFIED, WIDTH, Scale, drawing, line, marker, share_levels, text, value_ticks


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
