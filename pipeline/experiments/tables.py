"""`python -m pipeline.experiments.tables`: the pages and the curve of results/, and README's one table, from results/ alone.

In README, what lies between the two markers is written anew; `--check` only says whether all is as it should be. `--csv`,
`--latex` and `--markdown` print the numbers as one table and write nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.pages.tabular import AsCsv, AsLatex, AsMarkdown, TableForm, one_form, table_text
from pipeline.experiments.compare_page import compare_page
from pipeline.experiments.comparison import MethodComparison
from pipeline.experiments.published import (
    HEAD,
    Published,
    leads,
    load_curves,
    load_published,
    network_of,
    ours,
    table,
    theirs,
)
from pipeline.experiments.result import Result, load_results
from pipeline.experiments.result_rows import result_rows
from pipeline.experiments.scatter import draw_curves

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet", "digits": "Digits"}
#: The papers' rows, beside the folders of ours.
PUBLISHED = "published"
PAGE, CURVE, COMPARE = "README.md", "curve.svg", "compare.html"
#: Rows of README's table, the network that it is about, and the methods of ours that make a table with it.
MOST, FRONT, LEAST = 8, "resnet20", 2
NOTE = (
    "Ours: setting `reference` (torch, float32), in per cent; one seed with its 95 % Clopper-Pearson interval over the "
    "images, several with mean ± standard deviation over the seeds; the epoch is chosen on a validation split. ⚑: an attack "
    "raised a flag, which the result holds. margin-20 is PGD-20 on the margin loss, which is what the papers call C&W. An "
    "empty cell is a number that nobody has stated. ε 0.031 is 7.9/255, an easier test than 8/255; in D²R's tables it is the "
    "default of the official script, the paper does not say. Everything here is made from the files in this folder by "
    "`python -m pipeline.experiments.tables`. [compare.html](compare.html) sorts and filters them, and compares any two rows."
)


def main(
    readme: Annotated[Path, typer.Option(help="the page that holds the markers")] = Path("README.md"),
    results: Annotated[Path, typer.Option(help="folder of the results; its README.md is written")] = Path("results"),
    check: Annotated[bool, typer.Option(help="change nothing; exit 1 where a page is out of date")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="of a printed table: a folder of the results, or published")
    ] = None,
    as_csv: AsCsv = False,
    as_latex: AsLatex = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Writes the pages; with --csv, --latex or --markdown prints the numbers as one table instead."""
    try:
        if form := one_form(as_csv, as_latex, as_markdown, check=check):
            print(numbers(results, only or [], form))
            return
        if only:
            raise HallmarkError("--only is of a printed table: give --csv, --latex or --markdown too")
        for path, content in pages(readme, results).items():
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            if check and before != content:
                raise HallmarkError(f"{path}: is out of date; run python -m pipeline.experiments.tables")
            if before != content:
                write_whole(path, content.encode())
    except FileNotFoundError as error:
        print(f"tables: {error.filename}: there is no such file", file=sys.stderr)
        raise SystemExit(1) from None
    except HallmarkError as error:
        print(f"tables: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def numbers(results: Path, only: Sequence[str], form: TableForm) -> str:
    """The runs of the folders that `only` names and, where it has `published`, the papers' rows; all without it.

    Raises HallmarkError where a folder is not there, or nothing is.
    """
    there = [path.name for path in (*_datasets(results), *_comparisons(results))]
    for name in only:
        if name not in (*there, PUBLISHED):
            raise HallmarkError(f"--only {name}: must be one of {', '.join((*there, PUBLISHED))}")
    wanted = only or [*there, PUBLISHED]
    runs = [run for name in there if name in wanted for run in load_results(results / name)]
    rows = result_rows(runs, load_published(results / "published.json") if PUBLISHED in wanted else [], form)
    if not rows:
        raise HallmarkError(f"{results}: holds no results")
    return table_text(rows, form)


def pages(readme: Path, results: Path) -> dict[Path, str]:
    """The content of every page by its path; raises HallmarkError, and OSError where README cannot be read."""
    before = readme.read_text(encoding="utf-8")
    runs = {path.name: load_results(path) for path in _datasets(results)}
    found = {
        readme: fill(before, front(results, runs), str(readme)),
        results / PAGE: whole_page(results, runs),
        results / COMPARE: _compare(results, runs),
    }
    curves = load_curves(results / "published-curves.json")
    if drawn := draw_curves([run for run in runs.get("cifar10", []) if run.curve], curves):
        found[results / CURVE] = drawn
    return found


def _compare(folder: Path, runs: dict[str, list[Result]]) -> str:
    """results/compare.html, the comparisons first."""
    compared = [load_results(path) for path in _comparisons(folder)]
    return compare_page([*compared, *runs.values()], load_published(folder / "published.json"), TITLES)


def _comparisons(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("compare-*")) if path.is_dir() and any(path.glob("*.json"))]


def fill(page: str, content: str, where: str) -> str:
    """The page with `content` between its markers; raises HallmarkError where they are not there once, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise HallmarkError(f"{where}: must hold the lines {BEGIN} and {END} once, in this order")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    return f"{before}\n{content}\n{after}"


def front(folder: Path, runs: dict[str, list[Result]]) -> str:
    """README's table: LEAST methods on all of CIFAR-10 with the small network of the plan for CPUs, else the digits'."""
    small = [run for run in runs.get("cifar10", []) if run.sample.split == "test" and network_of(run) == FRONT]
    if len({run.method.name for run in small}) < LEAST:
        comparison = MethodComparison(load_results(folder / "compare-digits"))
        return f"{_comparison_table(comparison, MOST)}\n\n{comparison.conditions()}"
    published = [row for row in load_published(folder / "published.json") if row.network == FRONT]
    lines = [ours([run for run in small if run.name == name])[0] for name in dict.fromkeys(run.name for run in small)]
    return "\n".join([HEAD, *[*lines, *map(theirs, published)][:MOST]]) + f"\n\nCIFAR-10, {FRONT}, all training images."


def whole_page(folder: Path, runs: dict[str, list[Result]]) -> str:
    """results/README.md: ours by data set and network, the comparisons, then all published numbers, folded up."""
    published = load_published(folder / "published.json")
    parts = ["# Results", NOTE]
    for name, listed in runs.items():
        tested = [run for run in listed if run.sample.split == "test"]
        for network in dict.fromkeys(network_of(run) for run in tested):
            beside = [row for row in published if (row.dataset, row.network) == (name, network)]
            parts += _network(name, network, [run for run in tested if network_of(run) == network], beside)
        if choices := [run for run in listed if run.sample.split == "validation"]:
            parts += [f"## {_title(name)}, choices made on the validation split", table(choices, [])]
    if any(run.curve for run in runs.get("cifar10", [])):
        parts.append(f"![Robust accuracy on held-out images by epoch, ours and published]({CURVE})")
    for path in _comparisons(folder):
        parts += _comparison(path)
    parts.append("## The papers' numbers")
    for name in dict.fromkeys(row.dataset for row in published):
        parts.append(_published(name, [row for row in published if row.dataset == name]))
    return "\n\n".join(parts) + "\n"


def _network(name: str, network: str, results: Sequence[Result], published: Sequence[Published]) -> list[str]:
    found = leads(results)
    return [
        f"## {_title(name)}, {network}",
        table(results, published),
        *(["\n".join(f"* {line}" for line in found)] if found else []),
    ]


def _comparison(folder: Path) -> list[str]:
    comparison = MethodComparison(load_results(folder))
    name, about = comparison.results[0].data.name, folder.name.removeprefix("compare-")
    title = f"## {_title(name)}, {'the methods side by side' if about == name else about}"
    said = f"{comparison.conditions()} {comparison.caveat()} [All columns]({folder.name}.md)."
    return [title, _comparison_table(comparison), said]


def _comparison_table(comparison: MethodComparison, most: int | None = None) -> str:
    heads = comparison.heads()
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    lines += [
        f"| {' | '.join([row.title, *(item.say() for item in row.shares())])} |" for row in comparison.rows()[:most]
    ]
    return "\n".join(lines)


def _published(name: str, rows: Sequence[Published]) -> str:
    parts = [f"<details><summary>{_title(name)}</summary>"]
    for network in dict.fromkeys(row.network for row in rows):
        parts += [f"**{network}**", table([], [row for row in rows if row.network == network])]
    return "\n\n".join([*parts, "</details>"])


def _datasets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("compare-"))


def _title(name: str) -> str:
    return TITLES.get(name, name)


if __name__ == "__main__":
    run_command(main)
