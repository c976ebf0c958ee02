"""`hallmark versions`, `show`, `diff` and `history`: what is there, how it differs, how it went."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from audit.client import Client
from audit.difference import Difference, print_difference
from audit.export import difference_rows, recipe_rows, version_rows
from audit.live.service import fetch_verified
from audit.recipes import Recipes, print_recipes
from audit.terminal import (
    AsJson,
    Bundles,
    Releases,
    TokenFile,
    Trust,
    fail,
    is_url,
    print_json,
    read_token,
    say,
)
from audit.versions.find import (
    BUNDLE,
    RELEASES,
    Place,
    Version,
    find_version,
    hidden,
    list_versions,
    open_version,
    read_folder,
)
from audit.versions.history import unseen
from audit.versions.summary import print_list, print_summary
from audit.versions.tables import print_version, print_versions
from audit.versions.timeline import print_timeline, timeline, timeline_html, timeline_svg
from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.gate.pairing import Pair
from bundle.pages.tabular import AsCsv, AsLatex, AsMarkdown, Rows, TableForm, one_form, table_text

#: Seconds in which a service must have given its bundle.
WITHIN = 3600.0
#: Stands for `--` between the two sides of a comparison, which the parser of options would swallow.
BETWEEN = "\0--"


def versions(
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    trust: Trust = None,
    wide: Annotated[bool, typer.Option("--wide", help="Both settings, intervals, AutoAttack, places, flags.")] = False,
    as_csv: AsCsv = False,
    as_latex: AsLatex = False,
    as_markdown: AsMarkdown = False,
    as_json: AsJson = False,
) -> None:
    """List every version at hand: bundles in folders and in BentoML's model store, attestations in git."""
    form = one_form(as_csv, as_latex, as_markdown, json=as_json)
    found = list_versions(bundles or [BUNDLE], releases, trust or [])
    unread = unseen(Path()) or next(iter(hidden(found)), None)
    if as_json:
        print_json({"versions": [version.describe() for version in found], "unseen": unread})
    elif form:
        _print_rows(version_rows(found, form), form)
    elif found:
        (print_versions if wide else print_list)(found)
    else:
        say(_nothing(bundles, releases))
    _fail_where_hidden(unread)


def show(
    version: Annotated[
        str, typer.Argument(metavar="V", help="Digits of the SHA-256, a tag, a bundle's folder, or a service's URL.")
    ],
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    trust: Trust = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every number, bound and check, how it came about, what was not tested.")
    ] = False,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one version on a screen: clean, robust, proved, flags, where its report is; with --all everything."""
    if is_url(version):
        found = _of_service(version, trust or [], token_file)
    elif Path(version).is_dir():
        found = read_folder(Path(version), trust or [])
    else:
        found = find_version(version, list_versions(bundles or [BUNDLE], releases, trust or []))
    if found.statement is None:
        raise HallmarkError(f"{version}: {found.refusal}")
    if as_json:
        print_json({**found.describe(), "statement": found.statement})
    else:
        (print_version if everything else print_summary)(found)


def _of_service(url: str, trusted: list[Path], token_file: Path | None) -> Version:
    """The version that a service serves, fetched and verified in memory."""
    with Client(url, read_token(token_file), within=WITHIN) as client:
        found = fetch_verified(client, trusted, None)
    signature, content = found.signature, found.bundle.statement_bytes
    return Version(
        (Place("url", url),), sha256_bytes(content), found.bundle.statement, signature.state, signature.key_id
    )


class TwoSides(TyperCommand):
    """A command whose arguments may be two lists with `--` between them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [BETWEEN if item == "--" else item for item in args])


def diff(
    sides: Annotated[
        list[str], typer.Argument(metavar="A B", help="Two versions; with --recipes two lists: A1 A2 A3 -- B1 B2 B3.")
    ],
    recipes: Annotated[
        bool, typer.Option("--recipes", help="Compare two recipes: models of at least three seeds per side.")
    ] = False,
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    everything: Annotated[
        bool, typer.Option("--all", help="The reference setting and the other radii as well.")
    ] = False,
    as_csv: AsCsv = False,
    as_latex: AsLatex = False,
    as_markdown: AsMarkdown = False,
    as_json: AsJson = False,
) -> None:
    """Compare two versions image by image, or two recipes over their seeds: is B better, worse, not distinguishable?"""
    form = one_form(as_csv, as_latex, as_markdown, json=as_json)
    a, b = _sides(sides, recipes)
    at_hand = cache(lambda: list_versions(bundles or [BUNDLE], releases))
    opened = [[open_version(name, at_hand) for name in side] for side in (a, b)]
    found = Recipes(*opened) if recipes else Difference(Pair(opened[0][0], opened[1][0]))
    if as_json:
        print_json(found.describe())
    elif form and isinstance(found, Recipes):
        _print_rows(recipe_rows(found), form)
    elif form and isinstance(found, Difference):
        _print_rows(difference_rows(found.comparisons if everything else found.main(), form), form)
    elif isinstance(found, Recipes):
        print_recipes(found)
    else:
        print_difference(found, everything)


def history(
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figure as SVG.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figure as a page.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Bars, intervals, AutoAttack, flags.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the numbers over the versions: git's history of the attestation, its tags, and what is not in git."""
    found = timeline(bundles or [BUNDLE], releases)
    if not found.moments and not found.left_out and not as_json:
        say(_nothing(bundles, releases))
        _fail_where_hidden(found.hidden)
        return
    for path, draw in ((svg, timeline_svg), (html, timeline_html)):
        if path is not None and found.moments:
            write_whole(path, draw(found.moments).encode())
    if as_json:
        moments = [moment.describe() for moment in found.moments]
        print_json({"history": moments, "leftOut": list(found.left_out), "unseen": found.hidden})
    else:
        print_timeline(found, wide)
    _fail_where_hidden(found.hidden)


def _print_rows(rows: Rows, form: TableForm) -> None:
    """A table for another program; of nothing, nothing."""
    if rows:
        say(table_text(rows, form))


def _fail_where_hidden(hidden: str | None) -> None:
    """What is listed may not be all: said last, and with exit 1."""
    if hidden:
        fail(f"not all versions can be seen: {hidden}")


def _nothing(bundles: list[Path] | None, releases: Path) -> str:
    where = ", ".join(path.as_posix() for path in [*(bundles or [BUNDLE]), releases])
    return f"No version at hand: no bundle in {where}, no out/bundle/attestation.json in git's tags and branches."


def _sides(arguments: list[str], recipes: bool) -> tuple[list[str], list[str]]:
    """The two sides: two versions, or two lists with `--` or commas."""
    if arguments.count(BETWEEN) == 1:
        place = arguments.index(BETWEEN)
        a, b = arguments[:place], arguments[place + 1 :]
    elif BETWEEN not in arguments and len(arguments) == 2:
        a, b = ([argument] if not recipes else argument.split(",") for argument in arguments)
    else:
        a, b = [], []
    if not all([*a, *b]) or not a or not b:
        raise typer.BadParameter("give two versions A B; or with --recipes A1 A2 A3 -- B1 B2 B3, or A1,A2,A3 B1,B2,B3")
    if not recipes and len(a) + len(b) != 2:
        fail("diff: several models a side are recipes: give --recipes")
    return a, b
