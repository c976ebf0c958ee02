"""`python -m tests.fuzz --minutes M [--parser NAME]`: every parser, each in a process of its own, and a table of what came.

What it finds is written to --keep, a file a kind of find; exit 1 where there is any.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bundle.command_line import run_command
from tests.fuzz.campaign import campaign, keep
from tests.fuzz.parsers import PARSERS

COLUMNS = ("parser", "CPU minutes", "inputs", "taken", "refused", "slowest input", "largest growth", "finds")
HEAD = f"| {' | '.join(COLUMNS)} |\n|---{'|--:' * (len(COLUMNS) - 1)}|"
#: Beside its campaign a process loads libraries and makes its seeds.
STARTING = 300


def main(
    minutes: Annotated[float, typer.Option(help="of each parser")] = 1.0,
    parser: Annotated[list[str] | None, typer.Option(help="one of them; may be repeated")] = None,
    seed: Annotated[int, typer.Option(help="another one gives other inputs")] = 0,
    folder: Annotated[Path, typer.Option("--keep", help="where finds are written")] = Path("fuzz-finds"),
    inside: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Prints a row for each parser."""
    if inside is not None:
        [name] = parser or []
        inside.with_suffix(".json").write_text(json.dumps(_campaign(name, minutes, seed, folder, inside)))
        return
    for name in parser or []:
        if name not in PARSERS:
            raise typer.BadParameter(f"{name}: the parsers are {', '.join(PARSERS)}")
    print(HEAD, flush=True)
    finds = [line for name in parser or PARSERS for line in _row(name, minutes, seed, folder)]
    print(*finds, sep="\n")
    if finds:
        raise SystemExit(1)


def _row(name: str, minutes: float, seed: int, folder: Path) -> list[str]:
    """Runs one parser in a child and prints its row; returns a line for each find."""
    with TemporaryDirectory() as scratch:
        last = Path(scratch) / "last"
        options = ["--minutes", str(minutes), "--parser", name, "--seed", str(seed), "--keep", str(folder)]
        command = [sys.executable, "-m", "tests.fuzz", *options, "--inside", str(last)]
        ended = subprocess.run(command, check=False, timeout=60 * minutes * 20 + STARTING)
        if ended.returncode:
            content = last.read_bytes() if last.exists() else b""
            return keep(folder, name, {content: f"ended the process with {ended.returncode}"})
        told = json.loads(last.with_suffix(".json").read_text())
    print(
        "| {name} | {minutes:.1f} | {inputs:,} | {accepted:,} | {refused:,} | {slowest:.2f} s | {grown} MiB | {finds} |".format(
            **told
        ),
        flush=True,
    )
    return told["lines"]


def _campaign(name: str, minutes: float, seed: int, folder: Path, last: Path) -> dict[str, object]:
    found = campaign(name, PARSERS[name], seed, _within(60 * minutes), last)
    lines = keep(folder, name, found.finds) if found.finds else []
    return {
        **{"name": name, "minutes": minutes, "inputs": found.counts.total()},
        **{"accepted": found.counts["accepted"], "refused": found.counts["refused"], "slowest": found.slowest},
        **{"grown": found.grown, "finds": len(found.finds), "lines": lines},
    }


def _within(seconds: float) -> Iterator[int]:
    """Numbers until this process has computed for so many seconds since the first, before which it loads libraries."""
    started = time.process_time()
    for number in itertools.count():
        if time.process_time() - started > seconds:
            return
        yield number


if __name__ == "__main__":
    run_command(main)
