"""A run: one experiment with one seed, what decides its numbers, and where its files lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bundle.digests import canonical_json, sha256_bytes, sha256_tree
from pipeline.environment import ROOT
from pipeline.params import Params
from pipeline.params.files import with_digests

Suite = Literal["core", "papers"]
#: Settings of the attack stage that experiments have no use for; `images` is said by the run.
NOT_RUN = ("images", "sweep", "seeds", "plugins")


@dataclass(frozen=True)
class Run:
    """`params` are resolved; `images` is the size of the evaluation's first stage, `shard` that of its parts.

    `suite` are the attacks (verdicts.judges), `limits` on how many images they are asked of (verdicts.asked_of).
    """

    name: str
    seed: int
    params: Params
    images: int
    shard: int
    split: Literal["test", "validation"]
    whole: bool
    suite: Suite = "core"
    limits: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the run's files and its lines of progress."""
        return f"{self.name}-{self.seed}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the numbers, without folders and without what says only where to compute."""
        settings = self.params.model_dump(exclude={"device", "export", "certify"}, by_alias=True)
        del settings["data"]["path"]
        for name in NOT_RUN:
            del settings["attack"][name]
        return {**settings, "method": with_digests(settings["method"])}

    @cached_property
    def training(self) -> str:
        """The digest of what decides the weights, whatever they are attacked with."""
        settings = {key: value for key, value in self.settings.items() if key != "attack"}
        return sha256_bytes(canonical_json(_without_nulls(settings)))

    @cached_property
    def digest(self) -> str:
        """Two runs with the same digest measure the same thing, whatever the code's version."""
        return settings_digest(self.settings, self.split, self.shard, self.suite, self.limits)


def settings_digest(
    settings: dict[str, Any], split: str, shard: int, suite: str = "core", limits: Mapping[str, int] | None = None
) -> str:
    """The SHA-256 of what decides a result's numbers; settings that are null do not count.

    So a result stays what it is when the project gains a setting that is off by default.
    """
    document = {"settings": _without_nulls(settings), "split": split, "shard": shard}
    if suite != "core" or limits:
        document |= {"suite": suite, "limits": dict(limits or {})}
    return sha256_bytes(canonical_json(document))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


@dataclass(frozen=True)
class Places:
    """Where results are kept (in git) and where runs are worked on (not in git).

    `flat`: results lie in `results` itself, otherwise in a folder for each data set.
    """

    results: Path
    work: Path
    flat: bool = False

    def result(self, run: Run) -> Path:
        """The run's published result."""
        return (self.results if self.flat else self.results / run.params.data.name) / f"{run.key}.json"

    def folder(self, run: Run) -> Path:
        """The run's weights and shards."""
        return self.work / run.key

    def data(self, run: Run) -> Path:
        """The prepared splits, shared by the runs that have the same data settings."""
        code = sha256_tree(ROOT, sorted((ROOT / "pipeline" / "data").glob("*.py")))
        identity = canonical_json({"settings": run.params.data.model_dump(), "code": code})
        return self.work / "data" / f"{run.params.data.name}-{sha256_bytes(identity)[:12]}"
