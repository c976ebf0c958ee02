"""The attacks of a tier, one after another over a sample, with what each was and what it found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from pipeline.attacks import autoattack
from pipeline.attacks.margin import margin_pgd
from pipeline.attacks.pgd import trajectory
from pipeline.attacks.threat import Threat
from pipeline.environment import version_of
from pipeline.params import AttackSettings

PGD_STEPS = (10, 20, 50)
MARGIN_STEPS = 50
RELATIVE_STEP = 0.25
OWN_HARNESS = {"name": "hallmark", "version": "1"}


@dataclass(frozen=True)
class Sample:
    """Images float (N, C, H, W) in [0, 1], labels (N,), rows in the test split (N,), on the device that attacks."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[Sample]:
        for rows in torch.arange(len(self)).split(size):
            yield Sample(self.images[rows], self.labels[rows], self.index[rows])


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
    harness: dict[str, str] = field(default_factory=lambda: dict(OWN_HARNESS))
    flags: list[str] = field(default_factory=list)
    square_broken: int = 0

    def describe(self) -> dict[str, Any]:
        """The attack as the attestation's predicate records it."""
        return {
            "threat": self.threat.name,
            "name": self.name,
            "harness": self.harness,
            "settings": self.settings,
            "flags": [*self.flags, *autoattack.square_flags(self.square_broken, len(self.images))],
        }


def run_suite(
    network: nn.Module,
    sample: Sample,
    *,
    threat: Threat,
    settings: AttackSettings,
    classes: int,
    say: Callable[[str], None],
) -> Iterator[Finding]:
    """PGD-10, -20 and -50 (prefixes of one trajectory), margin, and in the standard tier AutoAttack.

    `network` is in eval mode on the sample's device. `say` is told a line of progress at a time.
    """
    search: dict[str, Any] = {
        "threat": threat,
        "seed": settings.seed,
        "restarts": settings.restarts,
        "relative_step": RELATIVE_STEP,
    }
    recorded = {
        "restarts": settings.restarts,
        "relativeStep": RELATIVE_STEP,
        "seed": settings.seed,
        "keeps": "smallest margin",
    }
    found: dict[int, list[Tensor]] = {steps: [] for steps in PGD_STEPS}
    for batch in _with_progress(sample, settings, f"{threat.name} pgd", say):
        path = trajectory(network, batch.images, batch.labels, index=batch.index, steps=PGD_STEPS, **search)
        for steps, images in path:
            found[steps].append(images)
    for steps, parts in found.items():
        yield Finding(threat, f"pgd-{steps}", torch.cat(parts), {"loss": "cross-entropy", "steps": steps, **recorded})

    margins = [
        margin_pgd(network, batch.images, batch.labels, index=batch.index, steps=MARGIN_STEPS, **search)
        for batch in _with_progress(sample, settings, f"{threat.name} margin", say)
    ]
    yield Finding(threat, "margin", torch.cat(margins), {"loss": "margin", "steps": MARGIN_STEPS, **recorded})

    if settings.tier == "standard":
        yield _autoattack(network, sample, threat, settings, classes, say)


def _autoattack(
    network: nn.Module,
    sample: Sample,
    threat: Threat,
    settings: AttackSettings,
    classes: int,
    say: Callable[[str], None],
) -> Finding:
    result = autoattack.autoattack(
        network,
        sample.images,
        sample.labels,
        threat=threat,
        seed=settings.seed,
        classes=classes,
        batch_size=settings.batch_size,
        progress=lambda line: say(f"{threat.name} autoattack: {line}"),
    )
    return Finding(
        threat,
        "autoattack",
        result.images,
        {
            **autoattack.settings(classes, threat.norm, min(sample.images.shape[2:])),
            "seed": settings.seed,
            "batchSize": settings.batch_size,
        },
        {"name": "pyautoattack", "version": version_of("pyautoattack") or "unknown"},
        result.flags,
        result.square_broken,
    )


def speaker() -> Callable[[str], None]:
    """Prints progress: a line that is written over on a terminal, every line elsewhere."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        return lambda line: print(f"  {line}", flush=True)
    return lambda line: console.print(f"  {line:<{console.width - 3}}", end="\r", soft_wrap=True)


def _with_progress(sample: Sample, settings: AttackSettings, what: str, say: Callable[[str], None]) -> Iterator[Sample]:
    """The sample's batches; after each, rate and time left are said."""
    started, done = time.monotonic(), 0
    for batch in sample.batches(settings.batch_size):
        yield batch
        done += len(batch)
        rate = done / (time.monotonic() - started)
        say(f"{what}: {done}/{len(sample)} images, {rate:.0f} images/s, {(len(sample) - done) / rate:.0f} s left")
