"""The evaluation of a trained run: shard by shard in the seeded order, then the result."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.digests import canonical_json, sha256_bytes, sha256_file
from bundle.layout import NETWORK, WEIGHTS
from pipeline.attacks.autoattack import square_flags
from pipeline.data.manifest import load_manifest
from pipeline.data.split import Split, load_split
from pipeline.evaluation.ledger import record_test_read
from pipeline.evaluation.tiers import attacked_threats
from pipeline.evaluation.victim import Victim
from pipeline.experiments.pace import expected_attack_seconds, time_passes
from pipeline.experiments.plan import Places, Run
from pipeline.experiments.result import (
    Accuracy,
    CurvePoint,
    DataRecord,
    Digests,
    MethodRecord,
    Result,
    SampleRecord,
    Seconds,
)
from pipeline.experiments.verdicts import (
    CLEAN,
    RULE,
    Judge,
    Shard,
    asked_of,
    attack_shard,
    judges,
    order_digest,
    seeded_order,
)
from pipeline.methods import method_class
from pipeline.networks.folding import fold_while_crafting
from pipeline.networks.serialisation import load_companions, load_network
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.devices import choose_device, in_layout, memory_format, pays_off
from pipeline.run.environment import describe_environment, lock_digest


@dataclass(frozen=True)
class Trained:
    """What training left beside its files: `seconds` over all calls, and the code's digest when it ended."""

    seconds: float
    source: str


class Evaluation:
    """A trained run under attack. `data` is the folder of its splits; reading the test split is put on record first."""

    def __init__(self, run: Run, places: Places, data: Path, trained: Trained) -> None:
        self.run, self.folder, self.trained = run, places.folder(run), trained
        self.device = choose_device(run.params.device)
        self.manifest = load_manifest(data / "manifest.json")
        self.weights = sha256_file(self.folder / WEIGHTS)
        if run.split == "test":
            record_test_read(self.weights, self.manifest["splits"]["test"]["sha256"])
        self.split: Split = load_split(data / f"{run.split}.npz")
        self.order = seeded_order(len(self.split), run.params.attack.seed)

    @cached_property
    def victim(self) -> Victim:
        """The served network and, where the suite attacks them too, those that were trained beside it."""
        companions = load_companions(self.folder) if self.run.suite == "papers" else {}
        return Victim(
            self._on_device(load_network(self.folder)),
            len(self.manifest["classes"]),
            {name: self._on_device(network) for name, network in companions.items()},
        )

    def _on_device(self, network: nn.Module) -> nn.Module:
        fast = pays_off(self.device, self.split.shape)
        layout = memory_format(self.device, self.run.params.train, fast=fast)
        prepared = in_layout(network.to(self.device), layout).eval().requires_grad_(False)
        if fast:
            fold_while_crafting([prepared])
        return prepared

    @cached_property
    def cache(self) -> Cache:
        """Of the shards: the outcome of the run's settings, its weights and the images, in the form that Shard has now."""
        images, form = self.manifest["splits"][self.run.split]["sha256"], sorted(Shard.model_fields)
        return Cache(cache_folder([self.run.digest, self.weights, images, form], self.folder / "shards"))

    def parts(self, whole: bool) -> list[NDArray[np.int64]]:
        """The rows of each shard: those of the first stage, or of the whole split."""
        rows = self.order if whole else self.order[: self.run.images]
        return [rows[start : start + self.run.shard] for start in range(0, len(rows), self.run.shard)]

    def work(self, number: int, say: Callable[[str], None] = lambda line: None) -> list[tuple[str, Judge]]:
        """The computations that the shard of this number is asked for, with their threats' names."""
        settings, side = self.run.params.attack, min(self.split.images.shape[1:3])
        found: list[tuple[str, Judge]] = []
        for threat in attacked_threats(settings):
            for judge in judges(self.run.suite, self.victim, threat, settings, side, say):
                limit = asked_of(self.run.limits, threat.name, judge.name)
                if limit is None or number * self.run.shard < limit:
                    found.append((threat.name, judge))
        return found

    def found(self, whole: bool) -> list[Shard]:
        """The shards that are done, from the first one on without a gap."""
        shards: list[Shard] = []
        for number in range(len(self.parts(whole))):
            shard = self._load(number)
            if shard is None:
                break
            shards.append(shard)
        return shards

    def attack(self, first: int, whole: bool, say: Callable[[str], None]) -> Iterator[Shard]:
        """The shards from number `first` on, one at a time: those that are missing are made and saved."""
        for number, rows in enumerate(self.parts(whole)[first:], first):
            work = self.work(number, say)

            def attacked(rows: NDArray[np.int64] = rows, work: list[tuple[str, Judge]] = work) -> dict[str, Any]:
                settings = self.run.params.attack
                return attack_shard(self.victim, self.split, rows, settings, work, self.device).model_dump()

            yield Shard.model_validate(self.cache.value(self._key(number), attacked))

    def _load(self, number: int) -> Shard | None:
        found = self.cache.stored(self._key(number))
        return None if found is None else Shard.model_validate(found)

    def _key(self, number: int) -> str:
        """With a digest of the computations, which limits decide shard by shard."""
        judged = [f"{threat}/{judge.name}" for threat, judge in self.work(number)]
        return f"{number:04}-{sha256_bytes(canonical_json(judged))[:8]}"

    def expected_seconds(self) -> float:
        """Seconds per image, from a few passes of the network."""
        images = torch.from_numpy(self.split.images[: self.run.params.attack.batch_size]).permute(0, 3, 1, 2) / 255
        forward, both = time_passes(self.victim.network, images.contiguous(), self.device)
        robust = self._record()["selection"].get("pgd_10", 1.0)
        return expected_attack_seconds(self.run.params.attack, forward, both, robust)

    def conclude(self, shards: list[Shard], command: str) -> Result:
        """The result over these shards."""
        run, record = self.run, self._record()
        method = method_class(run.params.method["name"])
        rows = np.array([row for shard in shards for row in shard.rows], dtype=np.int64)
        environment = describe_environment(self.device, run.params.cpu_threads)
        splits = self.manifest["splits"]
        return Result(
            name=run.name,
            seed=run.seed,
            settings=run.settings,
            settings_sha256=run.digest,
            method=MethodRecord(
                name=method.name,
                title=method.title,
                paper=method.paper,
                reconstructed=method.reconstructed,
                passes=list(method.passes),
            ),
            network=json.loads((self.folder / NETWORK).read_text(encoding="utf-8")),
            parameters=record["parameters"],
            selection=record["selection"],
            curve=self._curve(),
            data=DataRecord(
                name=self.manifest["name"],
                classes=len(self.manifest["classes"]),
                splits={name: splits[name]["sha256"] for name in ("train", "validation", "test")},
                counts={name: splits[name]["count"] for name in ("train", "validation", "test")},
            ),
            sample=SampleRecord(
                split=run.split,
                size=len(rows),
                of=len(self.split),
                order=RULE,
                seed=run.params.attack.seed,
                shard=run.shard,
                suite=run.suite,
                limits=dict(run.limits),
                index_sha256=order_digest(rows),
            ),
            threats=[threat.describe() for threat in attacked_threats(run.params.attack)],
            attacks=shards[0].attacks,
            accuracy=self._accuracy(shards),
            flags=_flags(shards),
            device=environment["device"],
            trained_on=record["environment"]["device"],
            environment=environment,
            command=command,
            seconds=Seconds(
                training=round(self.trained.seconds, 1), attack=round(sum(shard.seconds for shard in shards), 1)
            ),
            digests=Digests(
                weights=self.weights,
                lock=lock_digest(),
                training_source=self.trained.source,
                attack_source=sorted({shard.source for shard in shards}),
            ),
        )

    def _accuracy(self, shards: list[Shard]) -> Accuracy:
        joined = {
            key: np.concatenate([shard.outcomes(key) for shard in shards if key in shard.right])
            for key in shards[0].right
        }
        clean = joined.pop(CLEAN)
        attacked: dict[str, dict[str, Any]] = {threat.name: {} for threat in attacked_threats(self.run.params.attack)}
        for key, right in joined.items():
            threat, _, attack = key.partition("/")
            attacked[threat][attack] = right
        return Accuracy.of(clean, attacked)

    def _curve(self) -> list[CurvePoint]:
        with (self.folder / "history.csv").open(encoding="utf-8", newline="") as file:
            return [
                CurvePoint(
                    epoch=int(row["epoch"]),
                    clean=float(row["validation_clean"]),
                    pgd_10=float(row["validation_pgd_10"]),
                )
                for row in csv.DictReader(file)
            ]

    def _record(self) -> dict[str, Any]:
        return json.loads((self.folder / "training.json").read_text(encoding="utf-8"))


def _flags(shards: list[Shard]) -> list[str]:
    """What the attacks warned of, each once; Square's share is judged over all shards together."""
    found: dict[str, None] = {}
    for key in shards[0].flags:
        asked = [shard for shard in shards if key in shard.flags]
        raised = [flag for shard in asked for flag in shard.flags[key]]
        raised += square_flags(
            sum(shard.square_broken[key] for shard in asked), sum(len(shard.rows) for shard in asked)
        )
        found.update(dict.fromkeys(f"{key}: {flag}" for flag in raised))
    return list(found)
