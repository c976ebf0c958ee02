"""The attacks that runs are compared by, and on how many images each. Verdicts alone: no adversarial image is kept.

core: PGD-10, -20 and -50, margin PGD-50 and, unless the tier is quick, AutoAttack standard. papers: PGD-100 and margin
PGD-20 (the papers' "C&W") too, and for co-trained networks transfer from the companions and the adaptive attack.

Images are attacked in an order that a seed draws, so that any first part of it is a random sample, and in shards: a
killed evaluation goes on after the last whole one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from bundle.digests import sha256_bytes
from pipeline.attacks.pgd import cross_entropy, margin, steps_to_break
from pipeline.attacks.threat import Threat
from pipeline.data.split import Split
from pipeline.evaluation.columns import judge_reference
from pipeline.evaluation.running import run_suite
from pipeline.evaluation.tiers import RELATIVE_STEP, Job, autoattack_job, companion_jobs, core_jobs, searched
from pipeline.evaluation.victim import Sample, Victim
from pipeline.experiments.plan import Suite
from pipeline.experiments.result import Right, pack, unpack
from pipeline.networks.blocks import to_unit
from pipeline.networks.folding import folded
from pipeline.params import AttackSettings, Section
from pipeline.run.cache import Cache
from pipeline.run.environment import own_harness, source_digest

PGD_STEPS, MARGIN_STEPS = (10, 20, 50, 100), (20, 50)


@dataclass(frozen=True)
class Verdicts:
    """Which images (N,) are right under one attack; `record` is the attack as the attestation records it, without flags."""

    right: Right
    record: dict[str, Any]
    flags: list[str] = field(default_factory=list)
    square_broken: int = 0


@dataclass(frozen=True)
class Judge:
    """One computation: the verdicts of the attacks that it makes, by name. Limits know it by its own name."""

    name: str
    judge: Callable[[Sample], Iterator[Verdicts]]


def asked_of(limits: Mapping[str, int], threat: str, name: str) -> int | None:
    """How many images an attack is asked of, in the sample's order; None: all.

    `limits` are keyed by threat (`linf-16`), by attack (`autoattack`, `transfer` for every companion's) or by both
    (`linf-8/pgd`); the smallest that applies holds.
    """
    kind = "transfer" if name.startswith("transfer-") else name
    found = [limits[key] for key in (threat, kind, f"{threat}/{kind}") if key in limits]
    return min(found, default=None)


def judges(
    suite: Suite, victim: Victim, threat: Threat, settings: AttackSettings, side: int, say: Callable[[str], None]
) -> list[Judge]:
    """The suite's attacks in one ball, the cheap ones first; `side` is the images' shorter one in pixels."""

    def of_jobs(jobs: list[Job]) -> list[Judge]:
        return [_of_job(job, victim, threat, settings, say) for job in jobs]

    if suite == "core":
        return of_jobs(core_jobs(victim, threat, settings, side, say))
    found = [
        _search("pgd", "pgd-{}", "cross-entropy", PGD_STEPS, cross_entropy, victim, threat, settings),
        _search("margin", "margin-{}", "margin", MARGIN_STEPS, _minus_margin, victim, threat, settings),
        *of_jobs(companion_jobs(victim, threat, settings)),
    ]
    return (
        found if settings.tier == "quick" else [*found, *of_jobs([autoattack_job(victim, threat, settings, side, say)])]
    )


def _minus_margin(logits: Tensor, labels: Tensor) -> Tensor:
    return -margin(logits, labels)


def _of_job(job: Job, victim: Victim, threat: Threat, settings: AttackSettings, say: Callable[[str], None]) -> Judge:
    """The job's images, judged."""

    def judge(sample: Sample) -> Iterator[Verdicts]:
        labels = sample.labels.cpu().numpy()
        for found in run_suite(sample, [job], threat=threat, batch_size=len(sample), say=say, cache=Cache()):
            verdicts = judge_reference(victim.network, found.images, labels, settings.batch_size)
            record = {name: value for name, value in found.describe().items() if name != "flags"}
            yield Verdicts(verdicts.predictions == labels, record, found.flags, found.square_broken)

    return Judge(job.name, judge)


def _search(
    name: str,
    pattern: str,
    loss: str,
    steps: tuple[int, ...],
    objective: Callable[[Tensor, Tensor], Tensor],
    victim: Victim,
    threat: Threat,
    settings: AttackSettings,
) -> Judge:
    """PGD by several numbers of steps, prefixes of one trajectory that broken images leave."""

    def judge(sample: Sample) -> Iterator[Verdicts]:
        broken_after = _in_batches(
            sample,
            settings.batch_size,
            lambda batch: steps_to_break(
                victim.network,
                batch.images,
                batch.labels,
                threat=threat,
                seed=settings.seed,
                index=batch.index,
                steps=max(steps),
                restarts=settings.restarts,
                relative_step=RELATIVE_STEP,
                objective=objective,
            ),
        )
        for count in steps:
            described = {**searched(settings, loss, count), "keeps": "verdict of every iterate"}
            record = {
                "threat": threat.name,
                "name": pattern.format(count),
                "harness": own_harness("attacks"),
                "settings": described,
            }
            yield Verdicts(broken_after > count, record)

    return Judge(name, judge)


def _in_batches(sample: Sample, size: int, compute: Callable[[Sample], Tensor]) -> NDArray[np.int64]:
    return np.concatenate([compute(batch).cpu().numpy() for batch in sample.batches(size)])


RULE = "rows of the split sorted by the raw 64-bit numbers of PCG64(seed); the first `size` of them"


def seeded_order(images: int, seed: int) -> NDArray[np.int64]:
    """All rows of a split of so many images, in the seed's order.

    The raw bits of PCG64 are the stream that NumPy promises to keep; the methods of a Generator may change.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(images), kind="stable").astype(np.int64)


def order_digest(rows: NDArray[np.int64]) -> str:
    """SHA-256 of the rows as little-endian int64."""
    return sha256_bytes(np.ascontiguousarray(rows, dtype="<i8").tobytes())


CLEAN = "clean"


class Shard(Section):
    """`right`, `flags` and `square_broken` are keyed by `clean` or `threat/attack`, e.g. `linf-8/pgd-10`."""

    rows: list[int] = Field(min_length=1)
    right: dict[str, str]
    attacks: list[dict[str, Any]] = Field(description="every attack as the attestation records it, without flags")
    flags: dict[str, list[str]]
    square_broken: dict[str, int] = Field(description="images that only AutoAttack's Square broke")
    source: str = Field(description="SHA-256 of the code that made it")
    seconds: float

    def outcomes(self, key: str) -> Right:
        """Which of the shard's images are right under this attack."""
        return unpack(self.right[key], len(self.rows))


def attack_shard(
    victim: Victim,
    split: Split,
    rows: NDArray[np.int64],
    settings: AttackSettings,
    work: Sequence[tuple[str, Judge]],
    device: torch.device,
) -> Shard:
    """Attacks these rows of a split; `work` are the computations with their threats' names, the networks in eval mode."""
    started = time.monotonic()
    drawn = split.take(rows)
    images = to_unit(torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous()).to(device)
    sample = Sample(images, torch.from_numpy(drawn.labels).to(device), torch.from_numpy(rows))
    clean = judge_reference(victim.network, images, drawn.labels, settings.batch_size).predictions == drawn.labels
    found: dict[str, Any] = {"right": {CLEAN: pack(clean)}, "attacks": [], "flags": {}, "square_broken": {}}
    with folded(victim.network, *victim.companions.values()):
        for threat, judge in work:
            for verdicts in judge.judge(sample):
                key = f"{threat}/{verdicts.record['name']}"
                found["right"][key] = pack(verdicts.right)
                found["flags"][key], found["square_broken"][key] = verdicts.flags, verdicts.square_broken
                found["attacks"].append(verdicts.record)
    return Shard(
        rows=rows.tolist(),
        source=source_digest(),
        seconds=time.monotonic() - started,
        **found,
    )
