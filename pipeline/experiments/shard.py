"""A shard: the outcomes of some images under every attack, saved whole, so that a killed evaluation goes on after it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch import nn

from bundle.digests import canonical_json, write_whole
from pipeline.attacks.threat import attacked_threats, to_unit
from pipeline.data.split import Split
from pipeline.environment import source_digest
from pipeline.evaluation.evidence import judge_reference
from pipeline.evaluation.jobs import core_jobs
from pipeline.evaluation.kept import Kept
from pipeline.evaluation.suite import run_suite
from pipeline.evaluation.victim import Sample, Victim
from pipeline.experiments.accuracy import Right, pack, unpack
from pipeline.params import AttackSettings, Section

CLEAN = "clean"


class Shard(Section):
    """`right`, `flags` and `square_broken` are keyed by `clean` or `threat/attack`, e.g. `linf-8/pgd-10`."""

    identity: str = Field(description="of the settings, weights and images that it is the outcome of")
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
    network: nn.Module,
    split: Split,
    rows: NDArray[np.int64],
    settings: AttackSettings,
    *,
    identity: str,
    classes: int,
    device: torch.device,
    say: Callable[[str], None],
) -> Shard:
    """Attacks these rows of a split with the whole suite, in every threat; `network` is in eval mode on the device."""
    started = time.monotonic()
    drawn = split.take(rows)
    images = to_unit(torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous()).to(device)
    sample = Sample(images, torch.from_numpy(drawn.labels).to(device), torch.from_numpy(rows))

    def right(candidates: torch.Tensor) -> str:
        verdicts = judge_reference(network, candidates, drawn.labels, settings.batch_size)
        return pack(verdicts.predictions == drawn.labels)

    found: dict[str, Any] = {"right": {CLEAN: right(images)}, "attacks": [], "flags": {}, "square_broken": {}}
    side = min(images.shape[2:])
    for threat in attacked_threats(settings):
        work = core_jobs(Victim(network, classes), threat, settings, side, say)
        for finding in run_suite(sample, work, threat=threat, batch_size=len(sample), say=say, kept=Kept()):
            key = f"{threat.name}/{finding.name}"
            found["right"][key] = right(finding.images)
            found["flags"][key], found["square_broken"][key] = finding.flags, finding.square_broken
            # Flags are judged over all shards: the description's are this shard's alone.
            found["attacks"].append({name: value for name, value in finding.describe().items() if name != "flags"})
    seconds = time.monotonic() - started
    return Shard(identity=identity, rows=rows.tolist(), source=source_digest(), seconds=seconds, **found)


def save_shard(path: Path, shard: Shard) -> None:
    """Writes the shard; a kill leaves it whole or absent."""
    write_whole(path, canonical_json(shard.model_dump()))


def load_shard(path: Path, identity: str) -> Shard | None:
    """The shard of this identity, or None: another one's, or one that cannot be read, is made again."""
    try:
        shard = Shard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValidationError, ValueError):
        return None
    return shard if shard.identity == identity else None
