"""A rerun's report as people read it: the outcome first, then what it rests on. Its tables fit 80 columns."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from rich.console import Console
from rich.table import Table

from bundle.process import plain
from bundle.table.outcomes import SETTINGS
from pipeline.rerun.comparison import Comparison
from pipeline.rerun.report import LIMITS, Difference, Report

#: Images that are listed on a terminal; --json has all.
LISTED = 40
#: Where nobody looks on, lines are not folded.
PIPE_WIDTH = 240
TITLES = {
    "replayed": "the bundle's images through the model",
    "corrupted": "answers to corrupted images",
    "smoothed": "noisy votes of smoothed classifiers",
    "proved": "proved radii",
}


def print_report(report: Report) -> None:
    """Outcome, surroundings, a row an attack, what else was held against the table, the images, what was left out."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    out = Console(width=width, markup=False, emoji=False, highlight=False)
    out.print(f"{report.version} in {plain(report.bundle)}: {report.sentence()}")
    out.print(plain(f"Environment: {report.surroundings.sentence()}."))
    for sentence in report.scope():
        out.print(plain(sentence))
    out.print(
        "\nThe attacks with the bundle's own seeds: first line reference, second line served\n"
        "broken here: of the images that are right there; right here: of those broken there"
    )
    out.print(_attacks(report))
    out.print("\nBeside the attacks")
    out.print(_others(report))
    _images(out, list(report.differences()))
    out.print("\nNot repeated")
    for item in report.absent:
        out.print(plain(f"- {item.what}: {item.why}"))
    out.print("\nWhat this does not show")
    for sentence in LIMITS:
        out.print(f"- {sentence}")


def _attacks(report: Report) -> Table:
    """Two lines an attack, and all repeated ones of a threat together."""
    table = _table("threat", "attack", "images", "broken here", "right here", "then", "now", "points", "pixels")
    pairs = [item for item in report.comparisons if item.kind == "attacked"]
    for reference, served in zip(pairs[::2], pairs[1::2], strict=True):
        threat, _, attack = reference.name.partition("/")
        rows = [item.describe() for item in (reference, served)]
        counts = [_lines(row[name] for row in rows) for name in ("brokenHere", "rightHere")]
        pixels = f"\n{rows[1]['largestPixelDifference']}"
        table.add_row(plain(threat), plain(attack), str(rows[0]["images"]), *counts, *_shares(rows), pixels)
    together = list(report.accuracies())
    for rows in zip(together[:: len(SETTINGS)], together[1 :: len(SETTINGS)], strict=True):
        if rows[0]["attacks"] > 1:
            title = f"all {rows[0]['attacks']} above"
            table.add_row(plain(rows[0]["threat"]), title, str(len(report.found.then)), "", "", *_shares(rows), "")
    return table


def _shares(rows: Sequence[dict[str, float]]) -> Iterator[str]:
    """Accuracy then and now in per cent, and the difference in points."""
    pairs = [(100 * row["accuracyThen"], 100 * row["accuracyNow"]) for row in rows]
    yield _lines(f"{then:.1f}" for then, _ in pairs)
    yield _lines(f"{now:.1f}" for _, now in pairs)
    yield _lines(f"{now - then:+.1f}" if now != then else "0.0" for then, now in pairs)


def _others(report: Report) -> Table:
    """What is held against the table beside the attacks, all of a kind in one row."""
    table = _table("what", "verdicts", "differ", "within tolerance")
    for kind, title in TITLES.items():
        found = [item for item in report.comparisons if item.kind == kind]
        if found:
            counts = (
                sum(len(item.differs) for item in found),
                sum(int(item.differs.sum()) for item in found),
                sum(int(np.sum(item.explained)) for item in found),
            )
            table.add_row(title, *(f"{count:,}" for count in counts))
    return table


def _images(out: Console, differences: list[Difference]) -> None:
    """Every image whose verdict is another, what contradicts first."""
    if not differences:
        return
    table = _table("index", "label", "of", "then", "now", "tolerance")
    for item in islice(differences, LISTED):
        within = "within" if item.explained else "BEYOND"
        table.add_row(str(item.index), plain(item.label), plain(_title(item.comparison)), item.then, item.now, within)
    out.print("\nImages that differ, by their row in the test split; with the margin, where there is one")
    out.print(table)
    if len(differences) > LISTED:
        out.print(f"and {len(differences) - LISTED} more: --json")


def _title(item: Comparison) -> str:
    kind = "" if item.kind == "attacked" else f" ({item.kind})"
    return f"{item.name}, {item.setting}{kind}"


def _table(*names: str) -> Table:
    table = Table(padding=(0, 0), pad_edge=False)
    for name in names:
        text = name in ("threat", "attack", "what", "label", "of", "then", "now", "tolerance")
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    return table


def _lines(items: Iterator[object]) -> str:
    return "\n".join(map(str, items))
