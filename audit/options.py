"""What every command of `hallmark` has in common: its options, its JSON, and refusals in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from audit.tables import plain
from bundle.errors import sentence

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Bundles = Annotated[
    list[Path] | None, typer.Option(help="A bundle's folder; may be given again. [default: out/bundle]")
]
Releases = Annotated[Path, typer.Option(help="The folder of signed bundles.")]
Trust = Annotated[list[Path] | None, typer.Option(help="A key.pub to trust, or a folder of *.pub; may be given again.")]


class OneSentence(TyperGroup):
    """Commands whose refusals reach people as one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if (said := sentence(error)) is None:
                raise
            fail(said)


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
