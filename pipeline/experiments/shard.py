"""A shard: the outcomes of some images under every attack, saved whole, so that a killed evaluation goes on after it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from bundle.digests import canonical_json, write_whole
from pipeline.attacks.threat import to_unit
from pipeline.data.split import Split
from pipeline.environment import source_digest
from pipeline.evaluation.evidence import judge_reference
from pipeline.evaluation.victim import Sample, Victim
from pipeline.experiments.accuracy import Right, pack, unpack
from pipeline.experiments.verdicts import Judge
from pipeline.params import AttackSettings, Section

CLEAN = "clean"


class Shard(Section):
    """`right`, `flags` and `square_broken` are keyed by `clean` or `threat/attack`, e.g. `linf-8/pgd-10`."""

    identity: str = Field(description="of the settings, weights and images that it is the outcome of")
    rows: list[int] = Field(min_length=1)
    judges: list[str] = Field(description="threat/attack of the computations that were asked of these images")
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
    *,
    identity: str,
    device: torch.device,
) -> Shard:
    """Attacks these rows of a split; `work` are the computations with their threats' names, the networks in eval mode."""
    started = time.monotonic()
    drawn = split.take(rows)
    images = to_unit(torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous()).to(device)
    sample = Sample(images, torch.from_numpy(drawn.labels).to(device), torch.from_numpy(rows))
    clean = judge_reference(victim.network, images, drawn.labels, settings.batch_size).predictions == drawn.labels
    found: dict[str, Any] = {"right": {CLEAN: pack(clean)}, "attacks": [], "flags": {}, "square_broken": {}}
    for threat, judge in work:
        for verdicts in judge.judge(sample):
            key = f"{threat}/{verdicts.record['name']}"
            found["right"][key] = pack(verdicts.right)
            found["flags"][key], found["square_broken"][key] = verdicts.flags, verdicts.square_broken
            found["attacks"].append(verdicts.record)
    return Shard(
        identity=identity,
        rows=rows.tolist(),
        judges=[f"{threat}/{judge.name}" for threat, judge in work],
        source=source_digest(),
        seconds=time.monotonic() - started,
        **found,
    )


def save_shard(path: Path, shard: Shard) -> None:
    """Writes the shard; a kill leaves it whole or absent."""
    write_whole(path, canonical_json(shard.model_dump()))


def load_shard(path: Path, identity: str, judges: Sequence[str]) -> Shard | None:
    """The shard of this identity and these computations, or None: another one, or an unreadable one, is made again."""
    try:
        shard = Shard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValidationError, ValueError):
        return None
    return shard if (shard.identity, shard.judges) == (identity, list(judges)) else None
