"""What every command of `hallmark` has in common: its options, its JSON, text for terminals, refusals in one sentence."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from bundle.command_line import one_sentence
from bundle.process import plain

ABSENT = "–"
#: Columns where stdout is no terminal.
PIPE_WIDTH = 100
#: Styles, where the terminal has colours.
PASS, FAIL = "green", "bold red"


def console(least: int = 0) -> Console:
    """A console that takes text as it is, as wide as the terminal, or as COLUMNS says, and `least` columns at least."""
    width = max(shutil.get_terminal_size((PIPE_WIDTH, 24)).columns, least)
    return Console(width=width, markup=False, emoji=False, highlight=False)


def plain_table(*columns: str, whole: Sequence[str] = ()) -> Table:
    """A table without a frame, which leaves its columns more room; what does not fit is folded, but in `whole` columns."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in whole)
    return table


def percent_only(claim: Mapping[str, Any] | None) -> str:
    """`87.5 %`, or a dash."""
    return ABSENT if claim is None else f"{100 * claim['value']:.1f} %"


def percent_short(claim: Mapping[str, Any] | None) -> str:
    """`87.5 % [80.1, 92.8]`, or a dash."""
    return percent_in_full(claim).rpartition("]")[0] + "]" if claim and "interval" in claim else percent_only(claim)


def percent_in_full(claim: Mapping[str, Any] | None) -> str:
    """`87.5 % [80.1, 92.8] 175/200`, or a dash."""
    if claim is None or "interval" not in claim:
        return percent_only(claim)
    lower, upper = (100 * end for end in claim["interval"])
    return f"{percent_only(claim)} [{lower:.1f}, {upper:.1f}] {claim['correct']}/{claim['sampleSize']}"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Bundles = Annotated[
    list[Path] | None, typer.Option(help="A bundle's folder; may be given again. [default: out/bundle]")
]
Releases = Annotated[Path, typer.Option(help="The folder of signed bundles.")]
Trust = Annotated[list[Path] | None, typer.Option(help="A key.pub to trust, or a folder of *.pub; may be given again.")]


TokenFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Holds the service's bearer token.")]


def is_url(text: str | Path) -> bool:
    """Whether a person meant a service's address; a Path has lost one of its two slashes."""
    return bool(re.match("https?:/", str(text)))


def read_token(path: Path | None) -> str | None:
    """The bearer token in a file; None for no file."""
    return None if path is None else path.read_text(encoding="utf-8").strip()


class OneSentence(TyperGroup):
    """Commands whose refusals reach people as one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with one_sentence():
            return super().invoke(ctx)


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII: it is the same in every encoding."""
    say(json.dumps(document, indent=2, sort_keys=True))


def say(text: str) -> None:
    """Lines on stdout, at once, with escapes for what would steer a terminal.

    Unlike typer's echo in the encoding that stdout has, ASCII too.
    """
    print("\n".join(map(plain, text.split("\n"))), flush=True)


def fail(sentence: str) -> NoReturn:
    """One sentence on stderr, exit 1."""
    print(plain(sentence), file=sys.stderr, flush=True)
    raise typer.Exit(1)
