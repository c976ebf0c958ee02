"""The plan: named experiments in order of worth, as a YAML list, or several lists under headings; and its runs.

An entry has a `name`, `settings` with dotted keys as `dvc exp run -S` takes them (`method.name: regmix`), and, where
they differ from the defaults, `seeds`, `images`, `shard`, `split`, `whole`, `suite` and `limits`. A run is one experiment
with one seed: what decides its numbers, and where its files lie. Images are prepared once for all runs with the same
data settings.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bundle.digests import canonical_json, sha256_bytes, sha256_tree
from bundle.errors import HallmarkError
from pipeline.data.manifest import load_manifest
from pipeline.data.split import DataError
from pipeline.evaluation.tiers import attacked_threats
from pipeline.params import DataSettings, Params, Section, read_yaml, validated
from pipeline.params.reading import one_of, with_digests
from pipeline.params.schema import Count, Seed
from pipeline.prepare import prepare_data
from pipeline.resolve import complete
from pipeline.run.cache import locked
from pipeline.run.environment import ROOT

#: Settings that an entry must not give, and who gives them.
OWNERS = {"seed": "seeds", "data.path": "--data", "attack.images": "images"}

#: What limits may name beside threats.
ATTACKS = {"pgd", "margin", "autoattack", "transfer", "adaptive"}


class Experiment(Section):
    """One entry of the plan."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="names the result's file")
    settings: dict[str, Any] = Field(description="params.yaml's keys, dotted; what is left out has its defaults")
    seeds: list[Seed] = Field(default=[0], min_length=1, max_length=1000, description="one run each")
    images: Count = Field(default=1000, description="images of the evaluation's first stage, in the seeded order")
    shard: Count = Field(
        default=250, description="images attacked and saved at once; AutoAttack's examples depend on it"
    )
    split: Literal["test", "validation"] = Field(
        default="test", description="validation: for choices, never for claims"
    )
    whole: bool = Field(
        default=True, description="test split: attack all of it once every experiment has its first stage"
    )
    suite: Suite = Field(default="core", description="papers: PGD-100, margin-20, transfer and adaptive attacks too")
    limits: dict[str, Annotated[int, Field(ge=0, le=10**9)]] = Field(
        default={}, description="by threat, attack or threat/attack: asked of the first so many images alone"
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
            raise HallmarkError(
                f"images: must be a multiple of shard, got {self.images} and {self.shard}; or whole: false"
            )
        params = complete(document)
        self._check_limits(shard, {threat.name for threat in attacked_threats(params.attack)})
        return Run(
            self.name, seed, params, self.images, shard, self.split, self.whole, suite=self.suite, limits=self.limits
        )

    def _check_limits(self, shard: int, threats: set[str]) -> None:
        known = threats | ATTACKS | {f"{threat}/{attack}" for threat in threats for attack in ATTACKS}
        for key, limit in self.limits.items():
            if key not in known:
                raise HallmarkError(f"limits.{key}: {one_of(sorted(threats | ATTACKS), key)}, or both as threat/attack")
            if limit % shard:
                raise HallmarkError(f"limits.{key}: must be a multiple of shard, got {limit} and {shard}")


def load_plan(path: Path, data: str = "datasets") -> list[Run]:
    """The runs of a plan, one list after another: the first seed of each of its experiments, then the second, and so on.

    Raises HallmarkError with a line for each wrong field, `results/plan.yaml: resnet18-regmix: method.gamma: …`.
    """
    lists = [[_experiment(path, number, entry) for number, entry in enumerate(part, 1)] for part in _lists(path)]
    names = [experiment.name for part in lists for experiment in part]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise HallmarkError(f"{path}: {twice}: there are two experiments of this name; give one another")
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
    """`{"method.name": "mat"}` as `{"method": {"name": "mat"}}`; raises HallmarkError for a key that cannot stand there."""
    document: dict[str, Any] = {}
    for key, value in dotted.items():
        if key in OWNERS:
            raise HallmarkError(f"settings.{key}: is said by {OWNERS[key]}; take it out here")
        if isinstance(value, dict):
            raise HallmarkError(f"settings.{key}: write its keys with dots, {key}.{next(iter(value), 'KEY')}")
        *sections, last = key.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise HallmarkError(f"settings.{key}: {part} has a value of its own; write only one of both")
        if last in section:
            raise HallmarkError(f"settings.{key}: is given as a section and as a value; write only one of both")
        section[last] = value
    return document


def _lists(path: Path) -> list[list[Any]]:
    document = read_yaml(path, "there is no such plan")
    lists = list(document.values()) if isinstance(document, dict) else [document]
    if not all(isinstance(part, list) for part in lists):
        raise HallmarkError(
            f"{path}: must be a list of experiments, each with a name and settings, or such lists by heading"
        )
    return lists


def _experiment(path: Path, number: int, entry: Any) -> Experiment:
    name = entry.get("name") if isinstance(entry, dict) else None
    with _named(path, str(name or f"experiment {number}")):
        experiment = validated(Experiment, entry)
        if len(set(experiment.seeds)) != len(experiment.seeds):
            raise HallmarkError(f"seeds: must list each seed once, got {experiment.seeds}")
        return experiment


@contextmanager
def _named(path: Path, name: str) -> Generator[None]:
    """Puts the plan and the experiment before every line of what is wrong with it."""
    try:
        yield
    except HallmarkError as error:
        raise HallmarkError(*(f"{path}: {name}: {line}" for line in str(error).splitlines())) from None


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


def prepared(run: Run, places: Places) -> Path:
    """The folder with the run's splits and manifest, made now if need be; raises DataError where no images are."""
    folder, settings = places.data(run), run.params.data
    with locked(folder / ".lock", wait=True):
        # The manifest is written last. A person's own files are read anew: they may have changed.
        if settings.name == "folder" or settings.extra or not (folder / "manifest.json").exists():
            _refuse_absent(settings)
            prepare_data(settings, folder)
    load_manifest(folder / "manifest.json")
    return folder


def _refuse_absent(settings: DataSettings) -> None:
    """A run under a time limit downloads nothing: what a stage would fetch must be there already."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}.get(settings.name)
    if dataset is None:
        return
    path = Path(settings.path).expanduser()
    if path.name != dataset.base_folder and not (path / dataset.base_folder).is_dir():
        raise DataError(
            f"{settings.path}: holds no {dataset.base_folder}; unpack {dataset.filename} there, or name the folder that "
            "has it (make results DATA=…)"
        )
