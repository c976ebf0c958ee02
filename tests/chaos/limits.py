"""A full disk and too little memory, at each stage and at what writes bundles: one sentence, and what was there stays."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.chaos.commands import Command, Ended, Fault
from tests.chaos.folders import digests, names, require_kept, require_nothing_left
from tests.chaos.runs import EVALUATION
from tests.chaos.table import Row
from tests.chaos.writers import WRITERS

STAGES = ("prepare", "train", "export", "attack", "certify", "attest")
MEGABYTES = 96
#: Room that is left on the full disk: a small file still fits.
LEAVING = 8192
#: What a sentence about too little memory has in it.
LACKING = re.compile("memory|bad_alloc", re.IGNORECASE)
#: A stage whose address space may grow by so many MB once everything is imported.
LIMITED = """
import resource, sys
from importlib import import_module
from pathlib import Path
import dvclive, lightning.fabric, onnx, onnxruntime, onnxscript, scipy.stats, sklearn.datasets, torch.onnx, torchvision
from pipeline.stage import stage

(name, megabytes), sys.argv = sys.argv[1:], sys.argv[:1]
main = import_module(f"pipeline.{name}").main
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(megabytes) * 1_000_000,) * 2)
stage(name, main)
"""


class NoDisk(Exception):
    """No small file system can be mounted here; the message says why."""


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own, in memory; raises NoDisk."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoDisk(str(error)) from None
    if mounted.returncode:
        raise NoDisk(mounted.stderr.strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Inside it the disk is full but for a small file."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - LEAVING)
        try:
            yield
        finally:
            (disk / "filler").unlink()


def commands(line: Path, repository: Path) -> list[tuple[str, Command]]:
    """Every stage and `evaluate` in the folder of a line, every writer in the repository, all on the small disk."""
    stages = [(name, Command((f"pipeline.{name}",), line, home=line / "home")) for name in STAGES]
    evaluation = Command(EVALUATION.arguments, line, home=line / "home")
    return [*stages, ("evaluate", evaluation), *((item.title, item.command(repository)) for item in WRITERS)]


def on_a_full_disk(disk: Path, command: Command, row: Row) -> None:
    """One sentence that says so; what was there is there to the byte; and it succeeds when there is room."""
    shutil.rmtree(disk / "line" / "checkpoints", ignore_errors=True)
    before, there = digests(disk), names(disk)
    with full(disk):
        said = command.run(1).sentence()
    if "disk is full" not in said and "No space left on device" not in said:
        raise Fault(f"{command}: on a full disk it says {said!r}")
    require_kept(disk, before)
    require_nothing_left({name for name in names(disk) if ".part-" in name}, there)
    row.disturbed += 1
    command.run()
    row.went_on += 1
    row.result = "one sentence, earlier results intact"


def with_little_memory(name: str, line: Path, megabytes: Sequence[int], row: Row) -> None:
    """What was there is there to the byte, whatever the limit, and there is a sentence wherever Python comes to speak.

    A library may fall where its own memory ends, or a limit may be enough: the row tells how often.
    """
    said = fell = 0
    for limit in megabytes:
        before = digests(line / "out")
        ended = Command(("-c", LIMITED, name, str(limit)), line, home=line / "home").run(None)
        if ended.code < 0:
            fell += 1
        elif ended.code and not LACKING.search(sentence := _until_sentence(name, ended).sentence()):
            raise Fault(f"{name}: with {limit} MB more it says {sentence!r}")
        said += ended.code > 0
        if ended.code:
            require_kept(line / "out", before)
    Command((f"pipeline.{name}",), line, home=line / "home").run()
    row.disturbed, row.went_on = said + fell, 1
    enough = len(megabytes) - said - fell
    row.result = f"a sentence {said} times, a library fell {fell} times, enough {enough} times; earlier results intact"


def _until_sentence(name: str, ended: Ended) -> Ended:
    """What was said up to the stage's own sentence: on the way out torch's own clean-up may lack memory once more."""
    before, found, after = ended.said.partition(f"\n{name}: there is")
    return replace(ended, said=before + found + after.partition("\n")[0])
