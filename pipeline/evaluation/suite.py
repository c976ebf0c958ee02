"""Attacks over a sample: job by job and batch by batch, each batch kept as soon as it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from pipeline.attacks.autoattack import square_flags
from pipeline.attacks.saved import Part
from pipeline.attacks.threat import Threat
from pipeline.evaluation.harness import own_harness
from pipeline.evaluation.jobs import Job
from pipeline.evaluation.kept import Kept
from pipeline.evaluation.victim import Sample


@dataclass(frozen=True)
class Finding:
    """One attack's adversarial images, float (N, C, H, W) inside the ball, and how they were found.

    `square_broken`: images that only AutoAttack's Square broke, which make a flag where they are too large a share of
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
class Task:
    """One job on one batch of a sample, against one ball."""

    threat: Threat
    job: Job
    number: int
    batch: Sample

    @property
    def key(self) -> str:
        """Where its parts are kept."""
        return f"{self.threat.name}/{self.job.name}/{self.number:04}"

    def parts(self, kept: Kept) -> dict[str, Part]:
        """Images and notes by attack name, computed where they are not kept."""
        return kept.parts(self.key, lambda: self.job.run(self.batch, kept.keeper(self.key)))


def tasks(sample: Sample, threat: Threat, job: Job, batch_size: int) -> list[Task]:
    """A job on every batch of the sample, in order."""
    return [Task(threat, job, number, batch) for number, batch in enumerate(sample.batches(batch_size))]


def run_suite(
    sample: Sample,
    suite: Sequence[Job],
    *,
    threat: Threat,
    batch_size: int,
    say: Callable[[str], None],
    kept: Kept,
) -> Iterator[Finding]:
    """The findings of every job over the sample, `batch_size` images at a time; `say` is told a line of progress."""
    for job in suite:
        parts: dict[str, list[Part]] = {name: [] for name in job.settings}
        work = tasks(sample, threat, job, batch_size)
        quiet = all(kept.holds(task.key) for task in work)
        for task in work if quiet else _with_progress(work, say):
            for name, part in task.parts(kept).items():
                parts[name].append(part)
        for name, found in parts.items():
            yield _joined(threat, name, job, found, sample.images)


def _joined(threat: Threat, name: str, job: Job, parts: list[Part], like: Tensor) -> Finding:
    return Finding(
        threat,
        name,
        torch.cat([part.images for part in parts]).to(like),
        job.settings[name],
        job.harness,
        list(dict.fromkeys(flag for part in parts for flag in part.notes.get("flags", []))),
        sum(part.notes.get("square_broken", 0) for part in parts),
    )


def speaker() -> Callable[[str], None]:
    """Prints progress: a line that is written over on a terminal, every line elsewhere."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        return lambda line: print(f"  {line}", flush=True)
    return lambda line: console.print(f"  {line:<{console.width - 3}}", end="\r", soft_wrap=True)


def _with_progress(work: list[Task], say: Callable[[str], None]) -> Iterator[Task]:
    """The tasks of a job; after each, rate and time left are said."""
    started, done, images = time.monotonic(), 0, sum(len(task.batch) for task in work)
    for task in work:
        yield task
        done += len(task.batch)
        rate = done / (time.monotonic() - started)
        what = f"{task.threat.name} {task.job.name}"
        say(f"{what}: {done}/{images} images, {rate:.0f} images/s, {(images - done) / rate:.0f} s left")
