"""What every command of `hallmark` has in common: its options, its JSON, text for terminals, refusals in one sentence."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from bundle.command_line import STYLE, one_sentence
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


@dataclass(frozen=True)
class Command:
    """A command's function as `file:name` in audit/commands, its line in the list, and its class where it has its own."""

    function: str
    line: str
    kind: str | None = None

    def load(self, name: str) -> Any:
        """The command itself."""
        module, _, function = self.function.partition(":")
        found = import_module(f"audit.commands.{module}")
        alone = typer.Typer(add_completion=False, **STYLE)
        kind = {"cls": getattr(found, self.kind)} if self.kind else {}
        alone.command(name, short_help=self.line, **kind)(getattr(found, function))
        return typer.main.get_command(alone)


class Commands(TyperGroup):
    """Commands whose refusals reach people as one sentence, each imported when it is called, not where it is listed."""

    table: ClassVar[Mapping[str, Command]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: TyperCommand(name, short_help=command.line) for name, command in self.table.items()}
        self._lists = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self.commands.get(cmd_name) if self._lists or cmd_name not in self.table else self.load(cmd_name)

    def load(self, name: str) -> Any:
        """The command itself, not only its line in the list."""
        return self.table[name].load(name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._lists = True
        super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self._lists = True
        return super().shell_complete(ctx, incomplete)

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
