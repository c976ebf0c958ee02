"""The plan: named experiments in order of worth, as a YAML list, or several lists under headings.

An entry has a `name`, `settings` with dotted keys as `dvc exp run -S` takes them (`method.name: regmix`), and, where
they differ from the defaults, `seeds`, `images`, `shard`, `split`, `whole`, `suite` and `limits`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bundle.errors import HallmarkError
from bundle.yaml12 import YamlError, load
from pipeline.attacks.threat import attacked_threats
from pipeline.experiments.run import Run, Suite
from pipeline.params import Section, complete, read_yaml, validated
from pipeline.params.complaints import one_of
from pipeline.params.schema import Count, Seed

#: Settings that an entry must not give, and who gives them.
OWNERS = {"seed": "seeds", "data.path": "--data", "attack.images": "images"}

#: What limits may name beside threats.
ATTACKS = {"pgd", "margin", "autoattack", "transfer", "adaptive"}


class PlanError(HallmarkError):
    """A plan that cannot be worked off; the message names the experiment and the field."""


class Experiment(Section):
    """One entry of the plan."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="names the result's file")
    settings: dict[str, Any] = Field(description="params.yaml's keys, dotted; what is left out has its defaults")
    seeds: list[Seed] = Field([0], min_length=1, max_length=1000, description="one run each")
    images: Count = Field(1000, description="images of the evaluation's first stage, in the seeded order")
    shard: Count = Field(250, description="images attacked and saved at once; AutoAttack's examples depend on it")
    split: Literal["test", "validation"] = Field("test", description="validation: for choices, never for claims")
    whole: bool = Field(True, description="test split: attack all of it once every experiment has its first stage")
    suite: Suite = Field("core", description="papers: PGD-100, margin-20, transfer and adaptive attacks too")
    limits: dict[str, Annotated[int, Field(ge=0, le=10**9)]] = Field(
        {}, description="by threat, attack or threat/attack: asked of the first so many images alone"
    )

    def run(self, seed: int, data: str) -> Run:
        """This experiment with one seed and all settings filled in; `data` is the folder of the data sets.

        Raises HallmarkError where a setting is wrong.
        """
        document = nested(self.settings)
        document["seed"] = seed
        document["data"] = {**document.get("data", {}), "path": data}
        shard = min(self.shard, self.images)
        if self.whole and self.images % shard:  # the first stage must end where a shard ends
            raise PlanError(f"images: must be a multiple of shard, got {self.images} and {self.shard}; or whole: false")
        params = complete(document)
        self._check_limits(shard, {threat.name for threat in attacked_threats(params.attack)})
        return Run(
            self.name, seed, params, self.images, shard, self.split, self.whole, suite=self.suite, limits=self.limits
        )

    def _check_limits(self, shard: int, threats: set[str]) -> None:
        known = threats | ATTACKS | {f"{threat}/{attack}" for threat in threats for attack in ATTACKS}
        for key, limit in self.limits.items():
            if key not in known:
                raise PlanError(f"limits.{key}: {one_of(sorted(threats | ATTACKS), key)}, or both as threat/attack")
            if limit % shard:
                raise PlanError(f"limits.{key}: must be a multiple of shard, got {limit} and {shard}")


def load_plan(path: Path, data: str = "datasets") -> list[Run]:
    """The runs of a plan, one list after another: the first seed of each of its experiments, then the second, and so on.

    Raises PlanError with a line for each wrong field, `results/plan.yaml: resnet18-regmix: method.gamma: …`.
    """
    lists = [[_experiment(path, number, entry) for number, entry in enumerate(part, 1)] for part in _lists(path)]
    names = [experiment.name for part in lists for experiment in part]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PlanError(f"{path}: {twice}: there are two experiments of this name; give one another")
    runs: list[Run] = []
    for part in lists:
        last = max((len(experiment.seeds) for experiment in part), default=0)
        for place in range(last):
            for experiment in part:
                if place < len(experiment.seeds):
                    with _named(path, experiment.name):
                        runs.append(experiment.run(experiment.seeds[place], data))
    return runs


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"method.name": "mat"}` as `{"method": {"name": "mat"}}`; raises PlanError for a key that cannot stand there."""
    document: dict[str, Any] = {}
    for key, value in dotted.items():
        if key in OWNERS:
            raise PlanError(f"settings.{key}: is said by {OWNERS[key]}; take it out here")
        if isinstance(value, dict):
            raise PlanError(f"settings.{key}: write its keys with dots, {key}.{next(iter(value), 'KEY')}")
        *sections, last = key.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise PlanError(f"settings.{key}: {part} has a value of its own; write only one of both")
        if last in section:
            raise PlanError(f"settings.{key}: is given as a section and as a value; write only one of both")
        section[last] = value
    return document


def read_value(text: str) -> Any:
    """A value as YAML 1.2 reads it, so that `1e-3` is a number; raises PlanError."""
    try:
        return load(text)
    except YamlError as error:
        raise PlanError(f"{text!r}: is no YAML value ({error})") from None


def _lists(path: Path) -> list[list[Any]]:
    document = read_yaml(path, "there is no such plan")
    lists = list(document.values()) if isinstance(document, dict) else [document]
    if not all(isinstance(part, list) for part in lists):
        raise PlanError(
            f"{path}: must be a list of experiments, each with a name and settings, or such lists by heading"
        )
    return lists


def _experiment(path: Path, number: int, entry: Any) -> Experiment:
    name = entry.get("name") if isinstance(entry, dict) else None
    with _named(path, str(name or f"experiment {number}")):
        experiment = validated(Experiment, entry)
        if len(set(experiment.seeds)) != len(experiment.seeds):
            raise PlanError(f"seeds: must list each seed once, got {experiment.seeds}")
        return experiment


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Puts the plan and the experiment before every line of what is wrong with it."""
    try:
        yield
    except HallmarkError as error:
        raise PlanError(*(f"{path}: {name}: {line}" for line in str(error).splitlines())) from None
