"""Several processes on one evaluation: each does the next task that no other works on, and keeps what it finds.

On a small network a second thread costs more than it gains, a second process does not. Nothing depends on who did
what: a task's result is of its images, seed and settings.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from pipeline.evaluation.kept import Kept
from pipeline.evaluation.suite import Task
from pipeline.locks import locked
from pipeline.orphans import end_with
from pipeline.stage import refusal

#: Makes the tasks of an evaluation from its (picklable) ingredients, in every process the same.
Tasks = Callable[..., list[Task]]


def crew_size(device: torch.device, tier: str, threads: int) -> int:
    """Processes that an evaluation is shared by: a CPU's cores for `threads` each; one where starting costs more."""
    if device.type != "cpu" or tier == "quick":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


@dataclass(frozen=True)
class Work:
    """What a helper is told: small enough for any pipe. The ingredients are in a file with this SHA-256."""

    make_tasks: Tasks
    path: Path
    digest: str
    kept: Kept
    threads: int
    parent: int

    def ingredients(self) -> dict[str, Any]:
        """Read back; raises HallmarkError where the file is not the one that the caller wrote."""
        content = self.path.read_bytes()
        if sha256_bytes(content) != self.digest:
            raise HallmarkError(f"{self.path}: was changed by another program")
        return pickle.loads(content)  # written by our own parent, to the byte


@contextmanager
def helped_by(processes: int, make_tasks: Tasks, ingredients: dict[str, Any], kept: Kept) -> Iterator[None]:
    """Inside it, `processes` more processes do the same tasks as the caller, and all of them keep what they find.

    On the way out they are stopped: whatever they have not done is computed by whoever asks `kept` for it.
    """
    assert kept.folder is not None
    # A file, for what goes through a pipe waits until it is read: a helper that ends before would hold its caller.
    content, path = pickle.dumps(ingredients), kept.folder / f"ingredients-{os.getpid()}"
    started: list[SpawnProcess] = []
    try:
        write_whole(path, content, mode=0o600)
        work = Work(make_tasks, path, sha256_bytes(content), kept, torch.get_num_threads(), os.getpid())
        started += _started(processes, work)
        yield
    finally:
        for process in started:
            process.terminate()
            process.join()
        path.unlink(missing_ok=True)


def _started(processes: int, work: Work) -> Iterator[SpawnProcess]:
    """Those that the system lets begin: the work is done by fewer, or by the caller alone."""
    context = multiprocessing.get_context("spawn")
    for _ in range(processes):
        process = context.Process(target=_help, args=(work,), daemon=True)
        try:
            process.start()
        except OSError:
            return
        yield process


def do_tasks(tasks: list[Task], kept: Kept, say: Callable[[str], None] = lambda line: None) -> None:
    """Does every task that is neither kept nor in another process's hands, those with the longest jobs first.

    When nothing is left to begin it waits for those that others have in hand. `say` is told a line a task.
    """
    assert kept.folder is not None
    ordered = sorted(tasks, key=lambda task: not task.job.name.startswith("autoattack"))
    started = time.monotonic()
    for wait in (False, True):
        for task in ordered:
            with locked(kept.folder / "locks" / task.key.replace("/", "-"), wait=wait) as mine:
                if mine and not kept.holds(task.key):
                    task.parts(kept)
                    done = sum(kept.holds(other.key) for other in ordered)
                    seconds = time.monotonic() - started
                    say(f"{task.threat.name} {task.job.name}: {done} of {len(ordered)} tasks done, {seconds:.0f} s")


def _help(work: Work) -> None:
    end_with(work.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who stops us
    torch.set_num_threads(work.threads)
    try:
        do_tasks(work.make_tasks(**work.ingredients()), work.kept)
    except Exception as error:
        if refusal(error) is None:
            raise
        raise SystemExit(1) from None  # the caller does what is left, and says what is wrong where it meets it too
