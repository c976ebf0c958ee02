"""results/compare.html: every number of results/ in one table that can be sorted and filtered, and any two rows side by side.

One file without anything from outside. Two rows that were measured on the same images are compared image by image, as the
differences were computed here; others only stand beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from numpy.typing import NDArray

from bundle.numbers.claims import ALL_ATTACKS
from bundle.pages.report import SHEET
from bundle.pages.wording import threat_title
from pipeline.experiments.comparison import MethodComparison, SeedSpread, seed_differences
from pipeline.experiments.published import Published, method_title, network_of
from pipeline.experiments.result import Result, Share

#: Columns of accuracies: title, the keys that ours may have it under, the published field.
COLUMNS = (
    ("PGD-10", ("pgd-10",), "pgd_10"),
    ("PGD-50", ("pgd-50",), "pgd_50"),
    ("margin / C&W", ("margin", "margin-20"), "cw"),
    ("AutoAttack", ("autoattack",), "autoattack"),
    ("all attacks", (ALL_ATTACKS,), None),
)
NORMS = {"linf": "l∞", "l2": "l2", "l1": "l1"}


@dataclass(frozen=True)
class TableLine:
    """A row: `cells` are clean and COLUMNS, each a text and its value in per cent, or None.

    `right` says by seed which images (N,) are right under all attacks, of the images `sample`; published rows have none.
    """

    data: str
    network: str
    method: str
    whose: str
    eps: str
    cells: Sequence[tuple[str, float] | None]
    about: str
    sample: str = ""
    right: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict[int, NDArray[np.bool_]])


def compare_page(runs: Sequence[Sequence[Result]], published: Sequence[Published], titles: Mapping[str, str]) -> str:
    """The page, of results that belong together (a folder each) and the papers' rows; `titles` of data sets by name."""
    lines = [line for results in runs for line in _ours(results)]
    lines += [_theirs(row) for row in published]
    return _template().render(
        style=SHEET,
        heads=["clean", *(title for title, _, _ in COLUMNS)],
        lines=[(line, titles.get(line.data, line.data)) for line in lines],
        data=[(name, titles.get(name, name)) for name in dict.fromkeys(line.data for line in lines)],
        networks=sorted({line.network for line in lines}),
        pairs=_pairs(lines),
    )


def _ours(results: Sequence[Result]) -> Iterator[TableLine]:
    """The experiments of one folder, most robust first."""
    tested = [run for run in results if run.sample.split == "test"]
    if not tested:
        return
    comparison = MethodComparison(tested)
    for row in comparison.rows():
        runs = [run for run in tested if run.name == row.name]
        yield _experiment(runs, comparison)


def _experiment(runs: Sequence[Result], comparison: MethodComparison) -> TableLine:
    first, threat = runs[0], comparison.threat
    attacked = [_spread([share for run in runs if (share := _under(run, threat.name, keys))]) for _, keys, _ in COLUMNS]
    minutes = float(np.mean([run.seconds.training for run in runs])) / 60
    seeds = ", ".join(str(run.seed) for run in runs)
    return TableLine(
        data=first.data.name,
        network=network_of(first),
        method=method_title(first),
        whose=f"ours{', reconstructed' if first.method.reconstructed else ''}{' ⚑' if any(run.flags for run in runs) else ''}",
        eps=threat_title(threat.describe()),
        cells=[_spread([run.accuracy.clean for run in runs]), *attacked],
        about=f"{first.sample.size} of {first.sample.of} test images, {first.data.counts['train']} training images; "
        f"seeds {seeds}; {minutes:.1f} min of training on {first.trained_on or first.device}",
        sample=f"{first.data.name} {first.data.splits['test']} {first.sample.index_sha256} {threat.name}",
        right={run.seed: comparison.judged(run) for run in runs},
    )


def _under(run: Result, threat: str, keys: Sequence[str]) -> Share | None:
    return next((share for key in keys if (share := run.under(threat, key)) is not None), None)


def _spread(shares: Sequence[Share]) -> tuple[str, float] | None:
    spread = SeedSpread.of(shares) if shares else None
    return spread and (spread.say(), 100 * spread.mean)


def _theirs(row: Published) -> TableLine:
    values = [row.clean, *(getattr(row, name) if name else None for _, _, name in COLUMNS)]
    eps, _, remark = row.eps.partition(", ")
    return TableLine(
        data=row.dataset,
        network=row.network,
        method=row.method,
        whose="published, third party" if row.third_party else "published",
        eps=f"{NORMS[row.norm]} {eps}",
        cells=[None if value is None else (f"{value:.2f}", value) for value in values],
        about=f"{row.source}; epoch: {row.selection}{f'; ε: {remark}' if remark else ''}",
    )


def _pairs(lines: Sequence[TableLine]) -> dict[str, list[str]]:
    """The paired differences under all attacks, by the two rows' numbers: only of the same images and threat."""
    return {
        f"{first}-{second}": seed_differences(ours.method, ours.right, theirs.method, theirs.right)
        for (first, ours), (second, theirs) in combinations(enumerate(lines), 2)
        if ours.sample and ours.sample == theirs.sample
    }


@cache
def _template() -> Template:
    environment: Any = Environment(
        autoescape=True, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(files("pipeline.experiments").joinpath("compare.html").read_text(encoding="utf-8"))
