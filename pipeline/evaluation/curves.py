"""Certified accuracy by radius as a file that DVC plots, and as flat numbers that it compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: What smoothing_bounds() gives for each smoothed classifier, in the settings' order: its curve, then the average radius.
Bounds = Sequence[Sequence[dict[str, Any]]]


def curve_csv(bounds: Bounds) -> bytes:
    """The first smoothed classifier's curve with its interval, and the others' beside it, a column each."""
    first, *others = [{bound["radius"]: bound for bound in curve} for *curve, _ in bounds]
    names = [curve[0]["classifier"] for *curve, _ in bounds[1:]]
    rows = [["radius", "certified_accuracy", "lower", "upper", *names]]
    for radius in sorted({radius for curve in (first, *others) for radius in curve}):
        bound = first.get(radius)
        cells = [bound["value"], *bound["interval"]] if bound else [None] * 3
        cells += [curve[radius]["value"] if radius in curve else None for curve in others]
        rows.append([str(radius), *("" if cell is None else f"{cell:.6f}" for cell in cells)])
    return "".join(",".join(row) + "\n" for row in rows).encode()


def curve_metrics(bounds: Bounds) -> dict[str, Any]:
    """The first smoothed classifier's numbers, and those of the others below their names."""
    first, *others = [
        {f"certified_at_{bound['radius']}": bound["value"] for bound in curve}
        | {"average_certified_radius": average["value"]}
        for *curve, average in bounds
    ]
    return {**first, **{of[-1]["classifier"]: found for of, found in zip(bounds[1:], others, strict=True)}}


def curve_sentence(curve: Sequence[dict[str, Any]]) -> str:
    """Certified accuracy at up to three radii: the smallest, and those a quarter and half of the way along the curve.

    Not the mean radius, which a trivial classifier can make arbitrarily large (arXiv 2410.06895).
    """
    chosen = [curve[place] for place in dict.fromkeys(len(curve) * quarters // 4 for quarters in (0, 1, 2))]
    return "certified accuracy " + ", ".join(f"{bound['value']:.1%} at l2 {bound['radius']:g}" for bound in chosen)
