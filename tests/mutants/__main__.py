"""`python -m tests.mutants [--sample N] [--seed S] [--only bundle/numbers]`: how many small faults the tests notice.

A random sample of mutants of bundle/ and audit/, each in a private copy of the tree, under the tests that reach its line,
the quickest first, until one fails. What is done is kept in .mutants/, so a run that was stopped goes on; what survived
is tried again once a test has changed. Linux only: each mutant's tests run in a fork that has the libraries loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.command_line import run_command
from bundle.errors import HallmarkError
from bundle.numbers.intervals import clopper_pearson
from tests.mutants.copying import ROOT, copy_tree, files

if TYPE_CHECKING:
    from tests.mutants.judging import Result

CACHE = ROOT / ".mutants"


def main(
    sample: Annotated[int, typer.Option(min=1, help="how many mutants")] = 300,
    seed: Annotated[int, typer.Option(help="another one gives other mutants")] = 1,
    only: Annotated[str, typer.Option(help="how the names of the files begin: bundle/numbers")] = "",
    limit: Annotated[float, typer.Option(min=0, help="seconds of tests for one, the slowest left out")] = 12.0,
) -> None:
    """Prints the mutants that survive, and the share that does not with its 95 % interval."""
    try:
        import cosmic_ray  # noqa: F401
    except ModuleNotFoundError:
        raise HallmarkError("cosmic-ray is missing: .venv/bin/uv pip install cosmic-ray==8.7.0") from None
    names = [name for name in files() if name.startswith(("bundle/", "audit/")) and name.endswith(".py")]
    names = [name for name in names if name.startswith(only)]
    if not names:
        raise HallmarkError(f"--only {only}: no file of bundle/ or audit/ begins so")
    with TemporaryDirectory() as scratch:
        print(*_try_all(Path(scratch), names, sample, seed, limit), sep="\n")


def _try_all(scratch: Path, names: list[str], sample: int, seed: int, limit: float) -> Iterator[str]:
    from tests.mutants import drawing, judging, reach, running

    copy = copy_tree(scratch)
    running.prepare(copy)
    reached = reach.up_to_date(copy, CACHE)
    drawn = list(drawing.sample(ROOT, names, sample, seed))
    found = list(judging.results(copy, drawn, reached, CACHE / "results.jsonl", limit))
    yield from report(found, judging.fail_anyway(copy, found, reached))


def report(found: list[Result], doubtful: set[str]) -> Iterator[str]:
    """A line for each survivor, for each test that fails without a mutant too, and the scores."""
    for item in found:
        if item.verdict == "survived":
            tests = f"{item.ran} of {item.reaching} tests" if item.ran < item.reaching else f"{item.ran} tests"
            yield f"survived {tests}: {item.mutant}\n    {item.change}"
    for test in sorted(doubtful):
        yield f"fails without a mutant too: {test}, which killed {sum(item.test == test for item in found)}"
    for room in sorted({item.room for item in found}):
        yield f"{room}: {score([item for item in found if item.room == room])}"
    yield f"all: {score(found)}"


def score(found: list[Result]) -> str:
    """How many were tried and killed; a mutant that does not end counts as killed."""
    survived, timeouts = (sum(item.verdict == verdict for item in found) for verdict in ("survived", "timeout"))
    killed = len(found) - survived
    low, high = clopper_pearson(killed, len(found))
    return (
        f"{killed} of {len(found)} killed ({timeouts} by a timeout), {survived} survived: "
        f"{killed / len(found):.1%} (95 %: {low:.1%} to {high:.1%})"
    )


if __name__ == "__main__":
    run_command(main)
