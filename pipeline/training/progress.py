"""What a person sees while training runs, and the history that is kept of it.

Whether the next epoch fits into the time that is left.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bundle.digests import write_whole


class TrainingProgress:
    """A bar with rate and time left on a terminal; a line per epoch everywhere."""

    def __init__(self, epochs: int, steps: int, images: int, done: int) -> None:
        self._console = Console(file=sys.stdout)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=epochs * steps, completed=done * steps, rate="")
        self._epochs, self._steps, self._images = epochs, steps, images
        self._started, self._first = time.monotonic(), done
        self._epoch_started = self._started

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self) -> None:
        self._bar.advance(self._task)

    def back_to(self, done: int) -> None:
        """Sets the bar to where so many epochs are done."""
        self._bar.update(self._task, completed=done * self._steps)

    def epoch(self, row: dict[str, Any], best: bool) -> None:
        """Prints one line for a finished epoch; `row` as in history.csv."""
        now = time.monotonic()
        done = row["epoch"]
        left = (now - self._started) / (done - self._first) * (self._epochs - done)
        rate = self._images / (now - self._epoch_started)
        self._epoch_started = now
        self._bar.update(self._task, rate=f"{rate:.0f} images/s")
        losses = "  ".join(f"{name[5:]} {value:.4f}" for name, value in row.items() if name.startswith("loss_"))
        self._console.print(
            f"epoch {done}/{self._epochs}  {rate:.0f} images/s  {left:.0f} s left  lr {row['lr']:.4f}  {losses}  "
            f"attack breaks {row['attack_success']:.0%}  validation clean {row['validation_clean']:.1%} "
            f"FGSM {row['validation_fgsm']:.1%} PGD-10 {row['validation_pgd_10']:.1%}"
            f"{'  best' if best else ''}",
            highlight=False,
            soft_wrap=True,
        )


def save_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """history.csv: one row per epoch; times are left out, so that a run's history is the same whenever it ran."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
    )
    write_whole(path, buffer.getvalue().encode())


class LiveMetrics:
    """Each epoch's numbers to DVCLive where DVC runs the stage, so that DVC's tools can follow a run as it goes."""

    def __init__(self, folder: Path, resume: bool) -> None:
        self._live = None
        # Outside a DVC stage DVCLive would make the folder a DVC repository; history.csv is enough there.
        if "DVC_STAGE" in os.environ:
            from dvclive.live import Live

            self._live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, resume=resume, report=None)

    def epoch(self, row: dict[str, Any]) -> None:
        if self._live is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._live.log_metric(name, value)
            self._live.next_step()

    def end(self) -> None:
        if self._live is not None:
            self._live.end()


class Deadline:
    """Judges an epoch by the longest one so far, with its validation and checkpoint; `at` is a time.monotonic() value."""

    def __init__(self, at: float | None) -> None:
        self.at = at
        self.longest = 0.0
        self._last = time.monotonic()

    def epoch_done(self) -> None:
        """Notes how long the epoch took."""
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now

    def admits_another(self) -> bool:
        """Whether one more epoch would end in time; before the first, whether there is time at all."""
        return self.at is None or time.monotonic() + self.longest < self.at
