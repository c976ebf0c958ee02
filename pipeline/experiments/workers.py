"""Several processes on one plan: started, monitored and stopped. Each takes the next run that no other works on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pipeline.experiments.pace import Interruption, duration
from pipeline.experiments.plan import Places, Run, prepared
from pipeline.experiments.queue import BEGINS, FAILURE, forget_failures, has_result
from pipeline.experiments.result import load_result
from pipeline.methods import method_class

PAUSE = 0.3
#: Seconds that a worker has to leave in order after it was asked to.
GRACE = 20.0


def work_off(plan: Path, runs: list[Run], places: Places, data: str, command: str, count: int) -> dict[str, str]:
    """Runs the plan with `count` processes; returns, by key, a sentence for each run that failed.

    Ctrl-C and SIGTERM stop the processes, which leave checkpoints and shards behind. Raises HallmarkError.
    """
    Interruption().listen()
    forget_failures(runs, places)
    waiting = [run for run in runs if not has_result(run, places)]
    if not waiting:
        print(f"all {len(runs)} runs were done before")
        return {}
    for run in waiting:
        prepared(run, places)
    logs = [places.work / f"worker-{number}.log" for number in range(min(count, len(waiting)))]
    processes = [_start(plan, places, data, command, log) for log in logs]
    print(
        f"{len(runs)} runs, {len(runs) - len(waiting)} done before; {len(logs)} processes, logs in {places.work}",
        flush=True,
    )
    try:
        _watch(_Watch(runs, waiting, places, logs), processes)
    finally:
        _stop(processes)
    return {run.key: _why(run, places, logs) for run in waiting if not has_result(run, places)}


def _start(plan: Path, places: Places, data: str, command: str, log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--plan", plan, "--data", data, "--results", places.results, "--work", places.work]
    arguments += ["--command", command, "--worker", os.getpid()]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.experiments", *map(str, arguments)],
        # Two processes whose idle threads spin would take each other's cores.
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONIOENCODING": "utf-8"},
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )


@dataclass
class _Watch:
    """What a person is told while the processes work."""

    runs: list[Run]
    waiting: list[Run]
    places: Places
    logs: list[Path]

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.told: set[str] = set()
        self.settled: set[str] = set()

    def look(self) -> list[str]:
        """A line for each run that has ended since the last look."""
        lines: list[str] = []
        for run in self.waiting:
            if run.key in self.settled:
                continue
            if (self.places.folder(run) / FAILURE).exists():
                self.settled.add(run.key)
                lines.append(f"{run.key}: {_why(run, self.places, self.logs)}")
            elif self.places.result(run).exists() and has_result(run, self.places):
                self.settled.add(run.key)
                lines.append(f"{self._ended(run)}; {self.state()}")
        return lines

    def state(self) -> str:
        """Which runs are in work, done and left, and the time left."""
        done = len(self.runs) - len(self.waiting) + len(self.settled)
        working = [key for log in self.logs if (key := _in_work(log)) and key not in self.settled]
        left = len(self.waiting) - len(self.settled) - len(working)
        about = f", about {duration(seconds)} left" if (seconds := self._seconds_left()) else ""
        return (
            f"{done} of {len(self.runs)} done, in work: {', '.join(working) or 'none'}, {max(left, 0)} to begin{about}"
        )

    def _ended(self, run: Run) -> str:
        result = load_result(self.places.result(run))
        robust = result.under(result.main_threat().name)
        assert robust is not None
        return (
            f"{run.key}: clean {result.accuracy.clean.share:.1%}, robust {robust.share:.1%}, "
            f"trained in {duration(result.seconds.training)}, attacked in {duration(result.seconds.attack)}"
        )

    def _seconds_left(self) -> float:
        """From the fraction of all passes that is done: a method's passes say what its runs cost."""
        cost = {run.key: sum(method_class(run.params.method["name"]).passes) for run in self.waiting}
        done = sum(cost[key] for key in self.settled)
        return (time.monotonic() - self.started) * (sum(cost.values()) - done) / done if done else 0.0


def _watch(watch: _Watch, processes: list[subprocess.Popen[bytes]]) -> None:
    console = Console(highlight=False)
    with console.status("starting") as status:
        while True:
            ended = all(process.poll() is not None for process in processes)
            for line in watch.look():
                console.print(line, soft_wrap=True, markup=False)
            status.update(watch.state())
            if ended:
                return
            time.sleep(PAUSE)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _in_work(log: Path) -> str:
    """The run that a worker took last."""
    if not log.exists():
        return ""
    keys = [line[len(BEGINS) :].strip() for line in _lines(log) if line.startswith(BEGINS)]
    return keys[-1] if keys else ""


def _why(run: Run, places: Places, logs: list[Path]) -> str:
    failure = places.folder(run) / FAILURE
    if failure.exists():
        return json.loads(failure.read_text(encoding="utf-8"))
    last = [line for log in logs if log.exists() for line in _lines(log)[-1:]]
    return f"its process ended without a result; the last lines of the logs: {' | '.join(last) or 'none'}"


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()
