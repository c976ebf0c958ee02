"""`make results`: works off results/plan.yaml in the time that there is, and goes on where it stopped."""

from __future__ import annotations

import fnmatch
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.command_line import run_command
from bundle.errors import HallmarkError

if TYPE_CHECKING:
    from pipeline.experiments.plan import Run
    from pipeline.experiments.queue import Queue

STARTED = time.monotonic()
PLAN = Path("results/plan.yaml")


def main(
    budget: Annotated[
        str | None, typer.Option(help="time for this call: 25m, 90s, 1h30m; without it, no limit")
    ] = None,
    plan: Annotated[Path, typer.Option(help="the experiments, in order of worth")] = PLAN,
    data: Annotated[str, typer.Option(help="folder of the data sets")] = "datasets",
    only: Annotated[str | None, typer.Option(help="names of experiments, * for any letters")] = None,
    results: Annotated[Path, typer.Option(help="where results are kept")] = Path("results"),
    work: Annotated[Path, typer.Option(help="where runs are worked on")] = Path("out/results"),
    train_only: Annotated[bool, typer.Option("--train-only", help="leave the attacks to another call")] = False,
    command: Annotated[str | None, typer.Option(hidden=True)] = None,
    worker: Annotated[int | None, typer.Option(hidden=True, help="process that this one ends with")] = None,
) -> None:
    """Trains and attacks the plan's experiments that have no result yet, one after another."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imported here, so that the question for help is answered at once and the environment is set first.
    from bundle.process import end_with
    from pipeline.experiments.pace import Budget, Interruption, duration
    from pipeline.experiments.plan import Places, load_plan
    from pipeline.experiments.queue import Queue, forget_failures, has_result
    from pipeline.stage import outcome

    if worker is not None:
        end_with(worker)
    stop = Interruption()
    stop.listen()
    with outcome("results", "stopped; the same command goes on from the last epoch or shard"):
        time_left = Budget.of(budget, STARTED)
        runs = _chosen(load_plan(plan, data), only)
        places = Places(results, work, flat=worker is not None)
        if worker is None:
            forget_failures(runs, places)
        queue = Queue(
            runs,
            places,
            time_left,
            command=lambda run: command or _command(plan, run),
            stop=stop,
            train_only=train_only,
        )
        waiting = [run for run in runs if not has_result(run, places)]
        limit = "" if math.isinf(time_left.left()) else f"; {duration(time_left.left())} for this call"
        print(f"{len(runs)} runs, {len(runs) - len(waiting)} have a result{limit}", flush=True)
        report = queue.work()
        if worker is None:
            _say_what_is_left(queue)
    raise SystemExit(1 if report.failed or (report.notes and not report.worked) else 0)


def _chosen(runs: list[Run], only: str | None) -> list[Run]:
    if only is None:
        return runs
    chosen = [run for run in runs if fnmatch.fnmatch(run.name, only)]
    if not chosen:
        names = ", ".join(dict.fromkeys(run.name for run in runs))
        raise HallmarkError(f"only: {only} is no experiment of the plan; it has {names}")
    return chosen


def _command(plan: Path, run: Run) -> str:
    named = "" if plan == PLAN else f" PLAN={plan}"
    return f"make results{named} ONLY={run.name}"


def _say_what_is_left(queue: Queue) -> None:
    from pipeline.experiments.pace import Pace, duration
    from pipeline.experiments.queue import has_result

    left = [run for run in queue.runs if not has_result(run, queue.places)]
    print(
        f"done: {len(queue.runs) - len(left)} of {len(queue.runs)} runs, {len(queue.report.done)} of them in this call"
    )
    for run in left:
        note, seconds = queue.report.notes.get(run.key, "not begun in this call"), Pace.left(queue.places.folder(run))
        print(f"left: {run.key}: {note}{f'; about {duration(seconds)} left' if seconds else ''}")


if __name__ == "__main__":
    run_command(main)
