"""Runs that are killed, starved and doubled: `make chaos`. Prints a table for docs/testing.md; exits with 1 at any fault.

python -m tests.chaos [--seed 15] [killed two writers disk memory]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import limits, runs, writers
from tests.chaos.folders import copy
from tests.chaos.runs import EVALUATION, REPRO
from tests.chaos.table import Row, markdown, row

#: Kills of `dvc repro`, of `evaluate`, and of each writer, in the order of WRITERS.
KILLS = {REPRO: 18, EVALUATION: 12}
WRITES = (6, 6, 6, 3)
#: MB that a stage's address space may still grow by.
MEMORY = (2, 32)
PARTS = ("killed", "two", "writers", "disk", "memory")


def main() -> None:
    """Every part, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[], metavar=f"{{{','.join(PARTS)}}}")
    parser.add_argument("--seed", type=int, default=15, help="of the instants")
    given = parser.parse_args()
    if wrong := {*given.parts} - {*PARTS}:
        parser.error(f"{', '.join(sorted(wrong))}: is no part; they are {', '.join(PARTS)}")
    rows: list[Row] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hallmark-chaos-") as folder:
        chaos(Path(folder), rows, given.parts or list(PARTS), random.Random(given.seed))
    print(f"\n{markdown(rows)}\n\nseed {given.seed}, {time.monotonic() - begun:.0f} s")
    sys.exit(any(item.faults for item in rows))


def chaos(root: Path, rows: list[Row], parts: list[str], draw: random.Random) -> None:
    """All parts that are asked for, in the folder `root`; every one of them needs the undisturbed runs."""
    start, calm, seconds = runs.fresh(root / "start"), dict[runs.Whole, Path](), dict[runs.Whole, float]()
    for whole in KILLS:
        with row(rows, f"{whole.title}, undisturbed") as item:
            calm[whole] = runs.undisturbed(whole, start, root / f"calm {len(calm)}", item)
        if item.faults:
            return
        seconds[whole] = item.seconds
    if "killed" in parts:
        for whole, kills in KILLS.items():
            with row(rows, f"{whole.title}, killed at random instants") as item:
                runs.killed(whole, start, calm[whole], kills, seconds[whole], draw, item)
    if "two" in parts:
        two_at_once(start, rows)
    repository = writers.prepared(root / "repository", calm[REPRO] / "out" / "bundle")
    if "writers" in parts:
        for writer, kills in zip(writers.WRITERS, WRITES, strict=True):
            with row(rows, f"{writer.title}, killed at random instants") as item:
                writers.killed(writer, repository, kills, draw, item)
    if "disk" in parts:
        full_disk(root, calm[REPRO], repository, rows)
    if "memory" in parts:
        little_memory(calm[REPRO], rows)


def two_at_once(start: Path, rows: list[Row]) -> None:
    with row(rows, "two `dvc repro`, and a stage, in one folder") as item:
        runs.two_at_once(REPRO, start, [REPRO.arguments, ("pipeline.train",)], item)
    with row(rows, "two `evaluate` in one folder") as item:
        runs.two_at_once(EVALUATION, start, [EVALUATION.arguments], item)


def full_disk(root: Path, line: Path, repository: Path, rows: list[Row]) -> None:
    try:
        with limits.small_disk(root / "disk") as disk:
            line = copy(line, disk / "line", leave_out="cache")
            for name, command in limits.commands(line, copy(repository, disk / "repository")):
                with row(rows, f"{name}, on a full disk") as item:
                    limits.on_a_full_disk(disk, command, item)
    except limits.NoDisk as error:
        print(f"Left out: the full disk, for no small file system can be mounted here ({error})")


def little_memory(line: Path, rows: list[Row]) -> None:
    for name in limits.STAGES:
        with row(rows, f"{name}, with little memory") as item:
            limits.with_little_memory(name, line, MEMORY, item)


if __name__ == "__main__":
    main()
