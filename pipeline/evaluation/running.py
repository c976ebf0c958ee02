"""Attacks over a sample: job by job and batch by batch, each batch cached as soon as it is done.

Several processes may share one evaluation: each does the next task that no other works on, and caches what it finds. On
a small network a second thread costs more than it gains, a second process does not. Nothing depends on who did what: a
task's result is of its images, seed and settings. Before hours of attack, what will be left is held against what a
bundle may hold.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from bundle.corruptions import NAMES
from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.layout import check_sets
from bundle.process import available_cpus, end_with
from bundle.table.columns import check_extent
from pipeline.attacks.autoattack import square_flags
from pipeline.attacks.threat import Threat
from pipeline.evaluation.tiers import Job
from pipeline.evaluation.victim import Sample
from pipeline.run.cache import Cache, Part, locked
from pipeline.run.environment import own_harness
from pipeline.stage import refusal


@dataclass(frozen=True)
class AttackFinding:
    """One attack's adversarial images, float (N, C, H, W) inside the ball, and how they were found.

    `square_broken`: images that only AutoAttack's Square broke, which make a flag where they are too large a fraction of
    all images. An evaluation in parts adds them up and judges the sum.
    """

    threat: Threat
    name: str
    images: Tensor
    settings: dict[str, Any]
    harness: dict[str, Any] = field(default_factory=lambda: own_harness("attacks"))
    flags: list[str] = field(default_factory=list)
    square_broken: int = 0

    def describe(self) -> dict[str, Any]:
        """The attack as the attestation's predicate records it."""
        return {
            "threat": self.threat.name,
            "name": self.name,
            "harness": self.harness,
            "settings": self.settings,
            "flags": [*self.flags, *square_flags(self.square_broken, len(self.images))],
        }


@dataclass(frozen=True)
class AttackTask:
    """One job on one batch of a sample, against one ball."""

    threat: Threat
    job: Job
    number: int
    batch: Sample

    @property
    def key(self) -> str:
        """Where its parts are cached."""
        return f"{self.threat.name}/{self.job.name}/{self.number:04}"

    def parts(self, cache: Cache) -> dict[str, Part]:
        """Images and notes by attack name, computed where they are not cached."""
        return cache.parts(self.key, lambda: self.job.run(self.batch, cache.below(self.key)))


def tasks(sample: Sample, threat: Threat, job: Job, batch_size: int) -> list[AttackTask]:
    """A job on every batch of the sample, in order."""
    return [AttackTask(threat, job, number, batch) for number, batch in enumerate(sample.batches(batch_size))]


def run_suite(
    sample: Sample,
    suite: Sequence[Job],
    *,
    threat: Threat,
    batch_size: int,
    say: Callable[[str], None],
    cache: Cache,
) -> Iterator[AttackFinding]:
    """The findings of every job over the sample, `batch_size` images at a time; `say` is told a line of progress."""
    for job in suite:
        parts: dict[str, list[Part]] = {name: [] for name in job.settings}
        work = tasks(sample, threat, job, batch_size)
        quiet = all(cache.has(task.key) for task in work)
        for task in work if quiet else _with_progress(work, say):
            for name, part in task.parts(cache).items():
                parts[name].append(part)
        for name, found in parts.items():
            yield _joined(threat, name, job, found, sample.images)


def _joined(threat: Threat, name: str, job: Job, parts: list[Part], like: Tensor) -> AttackFinding:
    return AttackFinding(
        threat,
        name,
        torch.cat([part.images for part in parts]).to(like),
        job.settings[name],
        job.harness,
        list(dict.fromkeys(flag for part in parts for flag in part.notes.get("flags", []))),
        sum(part.notes.get("square_broken", 0) for part in parts),
    )


def progress_line() -> Callable[[str], None]:
    """Prints progress: a line that is written over on a terminal, every line elsewhere."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        return lambda line: print(f"  {line}", flush=True)
    return lambda line: console.print(f"  {line:<{console.width - 3}}", end="\r", soft_wrap=True)


def _with_progress(work: list[AttackTask], say: Callable[[str], None]) -> Iterator[AttackTask]:
    """The tasks of a job; after each, rate and time left are said."""
    started, done, images = time.monotonic(), 0, sum(len(task.batch) for task in work)
    for task in work:
        yield task
        done += len(task.batch)
        rate = done / (time.monotonic() - started)
        what = f"{task.threat.name} {task.job.name}"
        say(f"{what}: {done}/{images} images, {rate:.0f} images/s, {(images - done) / rate:.0f} s left")


#: Makes the tasks of an evaluation from its (picklable) ingredients, in every process the same.
Tasks = Callable[..., list[AttackTask]]


def worker_count(device: torch.device, tier: str, threads: int) -> int:
    """Processes that an evaluation is shared by: a CPU's cores for `threads` each; one where starting costs more."""
    if device.type != "cpu" or tier == "quick":
        return 1
    return max(1, available_cpus() // threads)


@dataclass(frozen=True)
class WorkerInput:
    """What a helper is told: small enough for any pipe. The ingredients are in a file with this SHA-256."""

    make_tasks: Tasks
    path: Path
    digest: str
    cache: Cache
    threads: int
    parent: int

    def ingredients(self) -> dict[str, Any]:
        """Read back; raises HallmarkError where the file is not the one that the caller wrote."""
        content = self.path.read_bytes()
        if sha256_bytes(content) != self.digest:
            raise HallmarkError(f"{self.path}: was changed by another program")
        return pickle.loads(content)  # written by our own parent, to the byte


@contextmanager
def worker_processes(processes: int, make_tasks: Tasks, ingredients: dict[str, Any], cache: Cache) -> Generator[None]:
    """Inside it, `processes` more processes do the same tasks as the caller, and all of them cache what they find.

    On the way out they are stopped: whatever they have not done is computed by whoever asks `cache` for it.
    """
    assert cache.folder is not None
    # A file, for what goes through a pipe waits until it is read: a helper that ends before would hold its caller.
    content, path = pickle.dumps(ingredients), cache.folder / f"ingredients-{os.getpid()}"
    started: list[SpawnProcess] = []
    try:
        write_whole(path, content, mode=0o600)
        work = WorkerInput(make_tasks, path, sha256_bytes(content), cache, torch.get_num_threads(), os.getpid())
        started += _started(processes, work)
        yield
    finally:
        for process in started:
            process.terminate()
            process.join()
        path.unlink(missing_ok=True)


def _started(processes: int, work: WorkerInput) -> Iterator[SpawnProcess]:
    """Those that the system lets begin: the work is done by fewer, or by the caller alone."""
    context = multiprocessing.get_context("spawn")
    for _ in range(processes):
        process = context.Process(target=_worker, args=(work,), daemon=True)
        try:
            process.start()
        except OSError:
            return
        yield process


def run_tasks(tasks: list[AttackTask], cache: Cache, say: Callable[[str], None] = lambda line: None) -> None:
    """Does every task that is neither cached nor in another process's hands, those with the longest jobs first.

    When nothing is left to begin it waits for those that others have in hand. `say` is told a line per task.
    """
    assert cache.folder is not None
    ordered = sorted(tasks, key=lambda task: not task.job.name.startswith("autoattack"))
    started = time.monotonic()
    for wait in (False, True):
        for task in ordered:
            with locked(cache.folder / "locks" / task.key.replace("/", "-"), wait=wait) as mine:
                if mine and not cache.has(task.key):
                    task.parts(cache)
                    done = sum(cache.has(other.key) for other in ordered)
                    seconds = time.monotonic() - started
                    say(f"{task.threat.name} {task.job.name}: {done} of {len(ordered)} tasks done, {seconds:.0f} s")


def _worker(work: WorkerInput) -> None:
    end_with(work.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who stops us
    torch.set_num_threads(work.threads)
    try:
        run_tasks(work.make_tasks(**work.ingredients()), work.cache)
    except Exception as error:  # refusal() tells what a person can mend from a fault, which goes on as it came
        if refusal(error) is None:
            raise
        raise SystemExit(1) from None  # the caller does what is left, and says what is wrong where it meets it too


def check_planned(shape: tuple[int, ...], plan: Sequence[tuple[Threat, Sequence[Job]]], corrupted: bool) -> None:
    """Raises HallmarkError where the images (N, H, W, C) of all jobs, or their table, would be more than a bundle holds.

    What certify adds to the table is not known here; assemble() counts it too.
    """
    attacks = [{"threat": threat.name, "name": name} for threat, jobs in plan for job in jobs for name in job.settings]
    corruptions = {"names": NAMES} if corrupted else None
    planned = {"sample": {"size": shape[0]}, "attacks": attacks, "corruptions": corruptions}
    try:
        check_sets(1 + len(attacks), shape)
        check_extent({**planned, "distances": [], "smoothing": [], "proofs": []})
    except HallmarkError as error:
        said = f"{shape[0]} images under {len(attacks)} attacks are more than a bundle may hold"
        raise HallmarkError(f"attack.images: {said} ({error}); take fewer images, threats or a smaller tier") from None
