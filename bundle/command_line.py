"""How every command of ours is run: its arguments parsed, what is refused in one sentence, Ctrl-C as exit 130."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand

from bundle.errors import sentence
from bundle.process import plain, plain_streams

#: Of every Typer. Rich's own markup would take `[default: out/bundle]` in a sentence for a style and swallow it.
STYLE: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": "markdown"}
#: Hallmark's name on PyPI, where `hallmark` is another project. Its module is `hallmark` all the same.
DISTRIBUTION = "hallmark-robustness"
#: The exit code of a command that Ctrl-C ended, as shells have it.
STOPPED = 130


@contextmanager
def one_sentence() -> Generator[None]:
    """Around a command: a refusal, and what the machine lacks, is one sentence on stderr and exit 1; Ctrl-C is exit 130.

    A fault of the code goes on as it came, with its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped by hand", file=sys.stderr, flush=True)
        raise SystemExit(STOPPED) from None
    except Exception as error:  # sentence() knows which are refusals; the others go on
        if (said := sentence(error)) is None:
            raise
        print(plain(said), file=sys.stderr, flush=True)
        raise SystemExit(1) from None


class OneSentenceCommand(TyperCommand):
    """A command whose refusals reach people as one sentence."""

    def invoke(self, ctx: Any) -> Any:
        with one_sentence():
            return super().invoke(ctx)


def run_command(main: Callable[..., object]) -> None:
    """Parses this process's arguments by the signature of `main`, calls it, and ends the process.

    `--help` prints what its docstring says and does nothing else; an argument that it does not have is exit 2. The first
    thing that every module does that is run by `python -m`.
    """
    plain_streams()
    app = typer.Typer(add_completion=False, **STYLE)
    app.command(cls=OneSentenceCommand)(main)
    app()
