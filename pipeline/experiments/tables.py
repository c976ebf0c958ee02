"""`python -m pipeline.experiments.tables`: README's tables, made from results/ and from nothing else.

What lies between the two markers is written anew; `--check` only says whether it is as it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.streams import plain_streams
from bundle.threats import Threat
from bundle.wording import threat_title
from pipeline.experiments.accuracy import Share
from pipeline.experiments.comparison import MARGIN, PGD, Comparison
from pipeline.experiments.published import Published, load_published
from pipeline.experiments.result import Result, load_results

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet", "digits": "Digits"}
COLUMNS = (
    "network, method, whose, ε, clean, PGD-50, margin / C&W, AutoAttack, AutoAttack at ε 0.031, n seed device / source"
)
HEAD = f"| {' | '.join(COLUMNS.split(', '))} |\n|---|---|---|---|---:|---:|---:|---:|---:|---|"
CELLS = COLUMNS.count(", ") + 1
#: How an eps begins that papers write for 8/255 and that is 7.9/255.
OTHER_EPS = "0.031"
NOTE = (
    "Ours: setting `reference`, in per cent with 95 % intervals over the images; the epoch is chosen on a validation split; "
    "⚑: an attack raised a flag, which the result holds. Margin is our PGD-50 on the margin loss, C&W the papers' PGD-20 on "
    "it. Published numbers are single runs, mostly with the epoch chosen on the test set. ε 0.031 is 7.9/255, an easier test "
    "than 8/255, so it has a column of its own; in D²R's tables it is the default of the official script, the paper does "
    "not say. Everything is made from results/ by `python -m pipeline.experiments.tables`."
)
NOT_RUN = "not run yet"


class TableError(HallmarkError):
    """The page has no place for the tables, or they are out of date."""


def main(
    page: Annotated[Path, typer.Option(help="the page that holds the markers")] = Path("README.md"),
    results: Annotated[Path, typer.Option(help="folder of the results")] = Path("results"),
    check: Annotated[bool, typer.Option(help="change nothing; exit 1 where the page is out of date")] = False,
) -> None:
    """Writes the tables into the page."""
    try:
        before = page.read_text(encoding="utf-8")
        after = fill(before, tables(results), str(page))
        if check and before != after:
            raise TableError(f"{page}: the tables are out of date; run python -m pipeline.experiments.tables")
        if before != after:
            write_whole(page, after.encode())
    except FileNotFoundError:
        print(f"tables: {page}: there is no such file", file=sys.stderr)
        raise SystemExit(1) from None
    except HallmarkError as error:
        print(f"tables: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def fill(page: str, content: str, where: str) -> str:
    """The page with `content` between its markers; raises TableError where they are not there once, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise TableError(f"{where}: must hold the lines {BEGIN} and {END} once, in this order")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    return f"{before}\n{content}\n{after}"


def tables(folder: Path) -> str:
    """Every table: the comparisons, then, folded up, ours beside the published numbers, a table a data set."""
    published = load_published(folder / "published.json")
    sets = dict.fromkeys([*(row.dataset for row in published), *(path.name for path in _datasets(folder))])
    parts = [
        _comparison(path) for path in sorted(folder.glob("compare-*")) if path.is_dir() and any(path.glob("*.json"))
    ]
    parts.append("<details><summary>Ours beside the papers' numbers</summary>")
    for name in sets:
        ours = load_results(folder / name) if (folder / name).is_dir() else []
        parts.append(_beside(name, ours, [row for row in published if row.dataset == name]))
        if choices := [run for run in ours if run.sample.split == "validation"]:
            parts.append(_choices(name, choices))
    return "\n\n".join([*parts, NOTE, "</details>"])


def _datasets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("compare-"))


def _comparison(folder: Path) -> str:
    comparison = Comparison(load_results(folder))
    heads = comparison.heads()
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in comparison.rows():
        lines.append(f"| {' | '.join([row.title, *(item.say() for item in row.shares())])} |")
    name = comparison.results[0].data.name
    about = folder.name.removeprefix("compare-")
    what = "the methods side by side" if about == name else about
    title = f"**{TITLES.get(name, name)}, {what}** ([all columns](results/{folder.name}.md))"
    return f"{title}\n\n{chr(10).join(lines)}\n\n{comparison.conditions()} {comparison.caveat()}"


def _beside(name: str, results: Sequence[Result], published: Sequence[Published]) -> str:
    """Ours beside the papers' numbers, by network and method, in the order of the file of published numbers."""
    ours = [run for run in results if run.sample.split == "test"]
    pairs = [*((row.network, row.method) for row in published), *((_network(run), run.method.name) for run in ours)]
    lines = [HEAD]
    for network, method in dict.fromkeys(pairs):
        mine = [run for run in ours if (_network(run), run.method.name) == (network, method)]
        theirs = [row for row in published if (row.network, row.method) == (network, method)]
        lines += [line for run in mine for line in _our_lines(run)] or [_line(network, method, NOT_RUN)]
        sources = dict.fromkeys(row.source for row in theirs)
        lines += [_published_line([row for row in theirs if row.source == source]) for source in sources]
    return f"**{TITLES.get(name, name)}**\n\n" + "\n".join(lines)


def _choices(name: str, results: Sequence[Result]) -> str:
    lines = [HEAD, *(line for run in results for line in _our_lines(run))]
    return f"**{TITLES.get(name, name)}, choices made on the validation split**\n\n" + "\n".join(lines)


def _our_lines(run: Result) -> list[str]:
    """A line a threat."""
    source = f"{run.name}: n {run.sample.size} of {run.sample.of}, seed {run.seed}, {run.device}"
    lines: list[str] = []
    for record in run.threats:
        threat = Threat.of(record).name
        cells = [_share(run.accuracy.clean), *(_share(run.under(threat, key)) for key in (PGD, MARGIN, "autoattack"))]
        whose = f"ours{', reconstructed' if run.method.reconstructed else ''}{' ⚑' if run.flags else ''}"
        lines.append(_line(_network(run), run.method.name, whose, threat_title(record), *cells, "", source))
    return lines


def _published_line(rows: Sequence[Published]) -> str:
    """One source in a line: what it measured at 0.031 stands apart."""
    other = [row for row in rows if row.eps.startswith(OTHER_EPS)]
    main = [row for row in rows if row not in other] or other
    first = main[0]
    assert len(main) == 1  # load_published refuses a source that says one thing twice
    autoattack = [None if first in other else first.autoattack, other[0].autoattack if other else None]
    clean = first.clean if first.clean is not None else (other[0].clean if other else None)
    cells = [_published(value) for value in (clean, first.pgd_50, first.cw, *autoattack)]
    whose = "published, third party" if first.third_party else "published"
    source = f"{first.source}{f'; PGD-10 {first.pgd_10:.2f}' if first.pgd_10 is not None else ''}"
    return _line(first.network, first.method, whose, "" if first in other else first.eps, *cells, source)


def _published(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _line(*cells: str) -> str:
    return f"| {' | '.join([*cells, *[''] * (CELLS - len(cells))])} |"


def _share(share: Share | None) -> str:
    if share is None:
        return "not run"
    low, high = share.interval
    return f"{100 * share.share:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _network(run: Result) -> str:
    width = run.settings["network"]["width"]
    return f"{run.network['name']}{f', width {width}' if width else ''}"


if __name__ == "__main__":
    plain_streams()
    typer.run(main)
