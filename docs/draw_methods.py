"""Draws docs/methods.svg and writes the table of docs/methods.md from the classes: `python -m docs.draw_methods`.

Run it whenever a method comes, goes or costs another number of passes. Each method stands below the class that it is built
on, and its dot in the year of its paper. Of the table only the last column is written by hand: what a reconstruction had to
add; the order is the page's, a new method comes last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from pipeline.methods import Method, method_class, method_names

PICTURE, PAGE = Path(__file__).with_name("methods.svg"), Path(__file__).with_name("methods.md")
HEAD = "| Name | Forward | Backward | Guide | Paper | Reconstructed |\n|---|---|---|---|---|---|\n"
ROW, TOP, LEFT, INDENT, NAMES, YEAR, TEXT = 22, 56, 14, 22, 250, 44, 330
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24 } .small { font-size: 11px; fill: #57606a } .year { text-anchor: middle }
.base { font-style: italic; fill: #57606a } .line { fill: none; stroke: #8c959f } .grid { stroke: #d0d7de }
.dot { fill: #0969da; stroke: #0969da; stroke-width: 2 } .made { fill: #ffffff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small, .base { fill: #9198a1 } .grid { stroke: #3d444d }
.made { fill: #0d1117 } }
"""


class Place(NamedTuple):
    """A class in the tree: its row, how deep it stands, and the row of what it is built on (None: of nothing)."""

    kind: type[Method]
    row: int
    depth: int
    above: int | None


def is_method(kind: type[Method]) -> bool:
    """Whether it can be named in params.yaml; others only hold what several methods share."""
    return "name" in vars(kind)


def year(kind: type[Method]) -> int | None:
    """The year of its paper; None for what has none."""
    found = re.search(r" (\d{4}),", getattr(kind, "paper", ""))
    return int(found[1]) if found else None


def built_on(kind: type[Method]) -> type[Method]:
    """The class that it inherits from first."""
    return next(base for base in kind.__bases__ if issubclass(base, Method))


def tree() -> list[Place]:
    """Every method and what several are built on, from above; beside each other by year and name."""
    below: dict[type[Method], set[type[Method]]] = {}
    for name in method_names():
        kind = method_class(name)
        while kind is not Method:
            below.setdefault(built_on(kind), set()).add(kind)
            kind = built_on(kind)
    places: list[Place] = []

    def first_year(kind: type[Method]) -> int:
        """Of it and what is built on it; 0 for what has no paper."""
        years = [year(kind), *(first_year(other) for other in below.get(kind, ()))]
        return min((number for number in years if number is not None), default=0)

    def add(kind: type[Method], depth: int, above: int | None) -> None:
        row = len(places)
        places.append(Place(kind, row, depth, above))
        for other in sorted(below.get(kind, ()), key=lambda each: (first_year(each), each.__name__)):
            add(other, depth + 1, row)

    for kind in sorted(below[Method], key=lambda each: (first_year(each), each.__name__)):
        add(kind, 0, None)
    return places


def picture() -> str:
    """The whole drawing."""
    places = tree()
    years = [number for place in places if (number := year(place.kind))]
    first, last = min(years), max(years)
    wide, tall = NAMES + (last - first + 1) * YEAR + TEXT, TOP + len(places) * ROW + LEFT
    parts = "\n".join([*_years(first, last, tall), *(part for place in places for part in _row(place, first, last))])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" role="img"><title>The training methods of '
        f"Hallmark, what each is built on, and the year of its paper</title><style>{STYLE}</style>\n{parts}\n</svg>\n"
    )


def _years(first: int, last: int, tall: int) -> Iterator[str]:
    yield f'<text class="small" x="{LEFT}" y="20">a method stands below what its class is built on</text>'
    yield f'<text class="small" x="{NAMES + 60}" y="20">a ring: reconstructed from an incomplete source</text>'
    for number in range(first, last + 1):
        x = NAMES + (number - first + 0.5) * YEAR
        yield f'<text class="small year" x="{x:g}" y="{TOP - 16}">{number}</text>'
        yield f'<path class="grid" d="M{x:g} {TOP - 8} V{tall - LEFT}"/>'


def _row(place: Place, first: int, last: int) -> Iterator[str]:
    kind, x, y = place.kind, LEFT + place.depth * INDENT, TOP + place.row * ROW + ROW / 2
    if place.above is not None:
        yield f'<path class="line" d="M{x - INDENT + 6} {TOP + (place.above + 1) * ROW - 4} V{y:g} H{x - 3}"/>'
    if not is_method(kind):
        yield f'<text class="base" x="{x}" y="{y + 4:g}">{escape(_words(kind.__name__))}</text>'
        return
    yield f'<text x="{x}" y="{y + 4:g}">{escape(kind.name)}</text>'
    if number := year(kind):
        made = " made" if kind.reconstructed else ""
        yield f'<circle class="dot{made}" cx="{NAMES + (number - first + 0.5) * YEAR:g}" cy="{y:g}" r="5"/>'
    told = kind.paper.split(", arXiv")[0].split(", openreview")[0]
    said = "" if told == "none" else "this project's own" if number is None else told
    end = NAMES + (last - first + 1) * YEAR + 10
    yield f'<text class="small" x="{end}" y="{y + 4:g}">{escape(", ".join(filter(None, [said, _kind(kind)])))}</text>'


def _words(name: str) -> str:
    """SeveralNorms as several norms."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _kind(kind: type[Method]) -> str:
    """What sets it apart, in a word."""
    if kind.needs_guide:
        return "with a guide"
    if kind.for_certificates:
        return "to be certified"
    return "one step" if kind.crafting_mode == "train" else ""


def table(page: str) -> str:
    """The table of a page, made anew; raises HallmarkError for a reconstruction of which it does not say what was added."""
    before = {row[0].strip("`"): row[5] for row in _rows(page)}
    known = set(method_names())
    names = [name for name in before if name in known] + sorted(known - before.keys())
    return HEAD + "".join(_line(method_class(name), before.get(name, "")) for name in names)


def _rows(page: str) -> list[list[str]]:
    lines = page.split(HEAD)[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def _line(kind: type[Method], added: str) -> str:
    if kind.reconstructed and not added:
        raise HallmarkError(f"{PAGE}: {kind.name} is a reconstruction; its row must say in its last column of what")
    forward, backward = kind.passes
    cells = [f"`{kind.name}`", str(forward), str(backward), "yes" if kind.needs_guide else "no", _linked(kind.paper)]
    return "|".join(["", *(f" {cell} " if cell else " " for cell in [*cells, added * kind.reconstructed]), "\n"])


def _linked(paper: str) -> str:
    """The paper's authors and year as a link; what is no paper, as it says."""
    if paper == "none":
        return ""
    authors, _, where = paper.partition(", ")
    if (number := where.removeprefix("arXiv ")) != where:
        return f"[{authors}](https://arxiv.org/abs/{number})"
    if where.startswith("openreview.net"):
        return f"[{authors}](https://{where})"
    return re.sub(r"arXiv ([\d.]+\d)", r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def written(page: str) -> str:
    """A page with its table made anew."""
    head, rest = page.split(HEAD)
    return head + table(page) + rest[rest.index("\n\n") + 1 :]


def main() -> None:
    """Draws docs/methods.svg and writes the table of docs/methods.md, from the classes of pipeline/methods."""
    write_whole(PAGE, written(PAGE.read_text(encoding="utf-8")).encode())
    write_whole(PICTURE, picture().encode())


if __name__ == "__main__":
    run_command(main)
