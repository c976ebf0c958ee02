"""The figure of `hallmark history`: clean, robust and certified accuracy over the versions, as a page and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from audit.timeline import Moment
from bundle.figures import VERSIONS_HEIGHT, Entry, over_versions
from bundle.report import STYLE
from bundle.svg import WIDTH


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
    size = f'width="{WIDTH}" height="{VERSIONS_HEIGHT:g}"'
    placed = [
        figure.replace('class="figure" ', f'y="{number * VERSIONS_HEIGHT:g}" {size} ', 1)
        for number, figure in enumerate(figures)
    ]
    total = VERSIONS_HEIGHT * len(figures)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" width="{WIDTH}" height="{total:g}">'
        f"<style>{escape(STYLE, quote=False)} svg {{ background: var(--ground); font-family: system-ui, sans-serif; }}</style>"
        f'<g class="report">{"".join(placed)}</g></svg>\n'
    )


def _figures(moments: Sequence[Moment]) -> list[str]:
    return list(over_versions([Entry(moment.label, moment.numbers) for moment in moments]))


def _caption(moments: Sequence[Moment]) -> str:
    last = moments[-1].label
    return (
        f"{len(moments)} attestations, the last one {last}. Whiskers: 95 % Clopper-Pearson intervals, for the drawing of "
        "images. A line joins neighbours of the same data alone; under attack, of the same threat and tier too."
    )
