"""Each mutant under its tests; what came of it is kept line by line."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.copying import digest, files
from tests.mutants.reach import HELPERS, SOURCES, TESTS, Reach
from tests.mutants.running import run_tests

#: Bytecode is told apart by the second of its source and the size: no two mutants get the same second.
SECONDS = itertools.count(10**9)


@dataclass(frozen=True)
class Mutant:
    """The `occurrence`-th change that an operator can make in a file, which it makes at this line and column."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.operator} {self.occurrence}"


@dataclass(frozen=True)
class Result:
    """What came of a mutant: `killed`, `timeout` or `survived`, by which test, of how many that reach it, how many ran."""

    mutant: str
    change: str
    verdict: str
    test: str
    reaching: int
    ran: int
    #: Seconds of tests that it was given, as they took without a mutant; the slowest, beyond that, were left out.
    limit: float
    #: Digests of the sources and of the tests that it is true of.
    sources: str
    tests: str

    @property
    def room(self) -> str:
        return self.mutant.split("/")[0]


def results(copy: Path, drawn: list[tuple[Mutant, str]], reached: Reach, kept: Path, limit: float) -> Iterator[Result]:
    """A result for each, from the file `kept` or made now and added to it."""
    states = _state()
    known = {item.mutant: item for item in read(kept) if _is_true(item, limit, *states)}
    left, begun = sum(str(mutant) not in known for mutant, _ in drawn), time.monotonic()
    for done, (mutant, code) in enumerate(item for item in drawn if str(item[0]) not in known):
        result = judge(copy, mutant, code, reached, limit, states)
        with kept.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
        known[result.mutant] = result
        each = (time.monotonic() - begun) / (done + 1)
        rest = f"{done + 1} of {left}, {each:.1f} s each, {(left - done - 1) * each / 60:.0f} min left"
        print(f"{result.verdict}: {result.mutant}  [{rest}]", file=sys.stderr, flush=True)
    yield from (known[str(mutant)] for mutant, _ in drawn)


def read(kept: Path) -> list[Result]:
    """The results in a file; of a line that a kill cut off, none."""
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True) if kept.exists() else []
    return [Result(**json.loads(line)) for line in lines if line.endswith("}\n")]


def judge(copy: Path, mutant: Mutant, code: str, reached: Reach, limit: float, states: tuple[str, str]) -> Result:
    """Writes the mutant into the copy, runs its tests, and puts the file back."""
    path = copy / mutant.file
    source, before = path.read_text(encoding="utf-8"), path.stat()
    tests = reached.tests(mutant.file, source, mutant.line)
    chosen = within_limit(tests, reached.seconds, limit)
    path.write_text(code, encoding="utf-8")
    os.utime(path, (before.st_mtime, next(SECONDS)))
    try:
        verdict, failed = run_tests(copy, {test: reached.seconds[test] for test in chosen}, "-x")
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return Result(
        str(mutant), difference(source, code), verdict, "".join(failed[:1]), len(tests), len(chosen), limit, *states
    )


def within_limit(tests: list[str], seconds: dict[str, float], limit: float) -> list[str]:
    """The first of them, which take `limit` at most; one at least."""
    spent, chosen = 0.0, list[str]()
    for test in tests:
        spent += seconds[test]
        if spent > limit and chosen:
            break
        chosen.append(test)
    return chosen


def difference(source: str, changed: str) -> str:
    """The lines of the mutant that are not the file's, as one."""
    lines = difflib.ndiff(source.splitlines(), changed.splitlines())
    return " / ".join(line[2:].strip() for line in lines if line.startswith("+ ")) or "(the line is left out)"


def fail_anyway(copy: Path, found: list[Result], reached: Reach) -> set[str]:
    """Which of the tests that killed fail without a mutant too: their verdicts say nothing."""
    tests = sorted({item.test for item in found} & reached.seconds.keys())
    return set(run_tests(copy, {test: reached.seconds[test] for test in tests})[1])


def _state() -> tuple[str, str]:
    sources = [file for file in files() if file.startswith(SOURCES)]
    return digest(sources), digest([file for file in files() if file.startswith((*TESTS, *HELPERS))])


def _is_true(item: Result, limit: float, sources: str, tests: str) -> bool:
    """Still: of other sources nothing is known, and other tests, or more of them, may kill a survivor."""
    asked = item.tests == tests and (item.ran == item.reaching or item.limit >= limit)
    return item.sources == sources and (item.verdict != "survived" or asked)
