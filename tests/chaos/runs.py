"""Whole runs, `dvc repro` and `evaluate`: undisturbed, killed at random instants until they are through, and two at once."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.commands import SIGNALS, Command, Fault, Running
from tests.chaos.folders import copy, names, require_nothing_left, require_same
from tests.chaos.table import Row
from tests.test_line import SMALL, fresh_copy

SETTINGS = {
    **SMALL,
    "attack": {"tier": "quick", "images": 12},
    "certify": {"sigma": 0.25, "selection": 10, "estimation": 20},
}
RESULTS = ("model.onnx", "outcomes.parquet", "images.npz", "attestation.json")
#: The user's own model: its weights are the seed's.
OWN = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
"""
SMALLER = ("attack.images=12", "certify.selection=10", "certify.estimation=20")
EVALUATE = ("--model", "own:network", "--data", "digits", "--name", "own", "--tier", "quick")


@dataclass(frozen=True)
class Whole:
    """A command that makes a bundle: what it is called, its arguments, where below its folder the bundle is."""

    title: str
    arguments: Sequence[str]
    bundle: str
    #: The lock that it holds while it trains or evaluates.
    lock: str

    def command(self, folder: Path) -> Command:
        return Command(self.arguments, folder, home=home(folder))


REPRO = Whole("`dvc repro`", ("dvc", "repro"), "out/bundle", "out/.train.lock")
EVALUATION = Whole(
    "`evaluate`",
    ("pipeline.evaluate", *EVALUATE, *(part for setting in SMALLER for part in ("--set", setting))),
    "evaluations/own/out/bundle",
    "evaluations/own/.lock",
)


def home(folder: Path) -> Path:
    """Where a run in this folder has its temporary files."""
    return folder.with_name(f"{folder.name} home")


def fresh(folder: Path) -> Path:
    """A repository in which nothing ran yet."""
    fresh_copy(folder, SETTINGS)
    (folder / "own.py").write_text(OWN)
    return folder


def undisturbed(whole: Whole, start: Path, folder: Path, row: Row) -> Path:
    """A run that nobody disturbs, in a copy of the folder `start`."""
    copy(start, folder)
    whole.command(folder).run()
    row.result = "bundle made"
    return folder


def killed(whole: Whole, start: Path, calm: Path, kills: int, seconds: float, draw: random.Random, row: Row) -> None:
    """Runs that are killed and begun again until they are through, `kills` times in all; a new one after each.

    An instant is drawn between the start and half of the `seconds` that an undisturbed run took.
    """
    ways, expected = itertools.cycle(SIGNALS), names(calm, home(calm))
    for number in itertools.count(1):
        folder = copy(start, calm.with_name(f"{calm.name} disturbed"))
        _through(whole.command(folder), lambda: row.disturbed < kills, lambda: draw.uniform(0, seconds / 2), ways, row)
        require_same(folder, calm, [f"{whole.bundle}/{name}" for name in RESULTS])
        require_nothing_left(names(folder, home(folder)), expected)
        row.result = f"{number} runs, byte-identical, nothing left behind"
        if row.disturbed >= kills:
            return


def _through(
    command: Command, more: Callable[[], bool], delay: Callable[[], float], ways: itertools.cycle[str], row: Row
) -> None:
    """One run: killed and begun again until it ends by itself."""
    while more():
        running, way = command.start(), next(ways)
        if not running.end_after(delay(), way):
            _require_success(running)
            return
        _require_alone(running, way)
        row.disturbed += 1
        row.went_on += 1
        print(f"  {row.disturbed}. {way}", flush=True)
    command.run()


def _require_success(running: Running) -> None:
    if (ended := running.wait()).code:
        raise Fault(f"{running.command}: exit {ended.code}: {ended.said[-3000:]}")


def _require_alone(running: Running, way: str) -> None:
    """What was killed leaves no process behind."""
    try:
        running.wait()
    except Fault as fault:
        raise Fault(f"after {way}: {fault}") from None


def two_at_once(whole: Whole, start: Path, others: Sequence[Sequence[str]], row: Row) -> None:
    """While one runs, each of the others in the same folder is refused and says what is in its way; the one goes on.

    The one stands still meanwhile, or it would be through before the others begin.
    """
    folder = copy(start, start.with_name(f"{start.name} twice"))
    first = whole.command(folder).start()
    _wait_until_held(folder / whole.lock)
    os.killpg(first.process.pid, signal.SIGSTOP)
    try:
        for arguments in others:
            ended = Command(arguments, folder, home=home(folder)).run(None)
            names_it = whole.lock in ended.said or f"PID {first.process.pid}" in ended.said
            if not ended.code or "Traceback" in ended.said or not names_it:
                raise Fault(f"{' '.join(arguments)}: exit {ended.code}, no word of the other run: {ended.said[-3000:]}")
            row.disturbed += 1
    finally:
        os.killpg(first.process.pid, signal.SIGCONT)
    _require_success(first)
    row.went_on, row.result = 1, "the second refused by name"


def _wait_until_held(path: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not (path.exists() and is_held(path)):
        if time.monotonic() > until:
            raise Fault(f"{path}: was not held within {seconds:.0f} s")
        time.sleep(0.005)


def is_held(path: Path) -> bool:
    """Whether a process has this file's lock."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
