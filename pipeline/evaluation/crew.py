"""Several processes on one evaluation: each does the next task that no other works on, and keeps what it finds.

On a small network a second thread costs more than it gains, a second process does not. Nothing depends on who did
what: a task's result is of its images, seed and settings.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.evaluation.kept import Kept
from pipeline.evaluation.suite import Task
from pipeline.locks import locked

#: Linux's prctl option that a process is sent a signal when its parent ends.
PR_SET_PDEATHSIG = 1

#: Makes the tasks of an evaluation from its (picklable) ingredients, in every process the same.
Tasks = Callable[..., list[Task]]


def crew_size(device: torch.device, tier: str, threads: int) -> int:
    """Processes that an evaluation is shared by: a CPU's cores for `threads` each; one where starting costs more."""
    if device.type != "cpu" or tier == "quick":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


@contextmanager
def helped_by(processes: int, make_tasks: Tasks, ingredients: dict[str, Any], kept: Kept) -> Iterator[None]:
    """Inside it, `processes` more processes do the same tasks as the caller, and all of them keep what they find.

    On the way out they are stopped: whatever they have not done is computed by whoever asks `kept` for it.
    """
    context = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    started = [
        context.Process(target=_help, args=(make_tasks, ingredients, kept, threads, os.getpid()), daemon=True)
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.join()


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


def _help(make_tasks: Tasks, ingredients: dict[str, Any], kept: Kept, threads: int, parent: int) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who stops us
    torch.set_num_threads(threads)
    do_tasks(make_tasks(**ingredients), kept)


def end_with(parent: int) -> None:
    """This process is killed when its parent is, so that nothing computes on for nobody."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
