"""One parser under mutated files for some time: every one must be taken or refused, within bounds of time and memory."""

from __future__ import annotations

import resource
import signal
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType

from bundle.errors import escaped
from tests.fuzz.mutation import generator, variant
from tests.fuzz.parsers import Parser

#: Of one input: the most seconds of computing, and the most MiB by which a process may grow.
SECONDS, MEBIBYTES = 20, 512


class HangError(BaseException):
    """An input took too long; no parser may catch it."""


@dataclass
class Found:
    """What came of a campaign; `finds` are a sentence each, by the bytes that made it."""

    counts: Counter[str] = field(default_factory=Counter[str])
    finds: dict[bytes, str] = field(default_factory=dict[bytes, str])
    slowest: float = 0.0
    grown: int = 0


def campaign(name: str, parser: Parser, seed: int, numbers: Iterator[int], last: Path | None = None) -> Found:
    """Reads one variant for each number; the input is written to `last` before, for a process that does not survive it."""
    found, seeds = Found(), parser.seeds()
    for content in seeds:
        _read(parser, content, Found())  # what is loaded once is no input's doing
    for number in numbers:
        content = variant(seeds, generator(name, seed, number))
        if last is not None:
            last.write_bytes(content)
        _read(parser, content, found)
    return found


def _read(parser: Parser, content: bytes, found: Found) -> None:
    before, started = peak(), time.process_time()
    said = outcome(parser, content)
    seconds, grown = time.process_time() - started, peak() - before
    found.slowest, found.grown = max(found.slowest, seconds), max(found.grown, grown)
    found.counts[said if said in ("accepted", "refused") else "found"] += 1
    if said not in ("accepted", "refused"):
        found.finds[content] = said
    elif grown > MEBIBYTES:
        found.finds[content] = f"took {grown} MiB"


def outcome(parser: Parser, content: bytes) -> str:
    """`accepted`, `refused`, or what else came of it."""
    try:
        with _alarm(SECONDS):
            parser.read(content)
        return "accepted"
    except parser.refusals as error:
        said = str(error)
        lines = [line for line in said.splitlines() if escaped(line) != line]
        return "refused" if said and not lines else f"a sentence with control characters: {lines!r}"
    except HangError:
        return f"took more than {SECONDS} seconds"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def peak() -> int:
    """The most memory that this process has taken so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@contextmanager
def _alarm(seconds: int) -> Generator[None]:
    """Of computing: a busy machine makes nothing hang."""

    def ring(_: int, __: FrameType | None) -> None:
        raise HangError

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def keep(folder: Path, name: str, finds: dict[bytes, str]) -> list[str]:
    """Writes the inputs of finds, one of each kind; returns a line for each."""
    kinds: dict[str, bytes] = {}
    for content, said in finds.items():
        kind = said.partition(":")[0]
        if kind not in kinds or len(content) < len(kinds[kind]):
            kinds[kind] = content
    (folder / name).mkdir(parents=True, exist_ok=True)
    for content in kinds.values():
        (folder / name / sha256(content).hexdigest()[:12]).write_bytes(content)
    return [f"{name}/{sha256(content).hexdigest()[:12]}: {finds[content]}" for content in kinds.values()]
