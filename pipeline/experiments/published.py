"""The papers' numbers, as results/published.json and results/published-curves.json repeat them, and ours beside them as text.

Each row and curve names its source and says eps, selection and runs as the source does. A table has one line per
experiment and radius, then one per published row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from bundle.errors import HallmarkError
from bundle.pages.wording import threat_title
from bundle.table.threats import Threat
from pipeline.experiments.comparison import SeedSpread, seed_differences
from pipeline.experiments.result import Result, Share
from pipeline.params import Section, validated

Percent = Annotated[float, Field(ge=0, le=100)]
Epoch = Annotated[int, Field(ge=1)]
Norm = Literal["linf", "l2", "l1"]
#: What JSON writes as a list: (epochs trained, clean, robust), accuracies in per cent.
Point = Annotated[tuple[Epoch, Percent, Percent], Field(strict=False)]
Read = TypeVar("Read", bound="Source")


class Source(Section):
    """Who says something of which training, and how far it is to be trusted.

    eps begins with its value (8/255, 0.5); what follows a comma is a remark. `selection`: how the epoch was chosen.
    `runs`: over how many trainings, 1 where the source is one log or one checkpoint, null where it says nothing.
    """

    dataset: str
    network: str
    method: str
    norm: Norm = "linf"
    eps: str = Field(min_length=1)
    selection: str = Field(default="not stated", min_length=1)
    runs: int | None = Field(default=None, ge=1)
    source: str = Field(min_length=1)

    def key(self) -> tuple[str, ...]:
        """What may be said once: data set, network, method, norm, eps without its remark, source."""
        return (self.dataset, self.network, self.method, self.norm, self.eps.split(",")[0].strip(), self.source)


class Published(Source):
    """What a source says of a method's accuracy; accuracies in per cent, null where it says nothing.

    A row has one eps: a source that mixes them has several rows. `cw` is PGD-20 with the margin loss, as these papers
    do it, `cw_100` the same with 100 steps. `third_party`: said by others than the method's authors, of a training
    that may be theirs (RobustBench measures the authors' own weights and is none).
    """

    clean: Percent | None = None
    pgd_10: Percent | None = None
    pgd_20: Percent | None = None
    pgd_50: Percent | None = None
    pgd_100: Percent | None = None
    cw: Percent | None = None
    cw_100: Percent | None = None
    autoattack: Percent | None = None
    third_party: bool = False


class PublishedCurve(Source):
    """Clean and robust accuracy on `split` by epoch of one training; `attack` is what the robust share is measured by."""

    split: Literal["validation", "test"]
    attack: str = Field(min_length=1)
    epochs: Epoch
    schedule: str = Field(min_length=1)
    points: Annotated[tuple[Point, ...], Field(strict=False)]

    @field_validator("points")
    @classmethod
    def _rises(cls, points: tuple[Point, ...], info: ValidationInfo) -> tuple[Point, ...]:
        epochs = [point[0] for point in points]
        if not epochs:
            raise ValueError("must hold a point")
        if any(later <= earlier for earlier, later in pairwise(epochs)):
            raise ValueError("the epochs must rise from point to point")
        if epochs[-1] > info.data.get("epochs", epochs[-1]):
            raise ValueError(f"must end by epoch {info.data['epochs']}")
        return points


def load_published(path: Path) -> list[Published]:
    """The rows in the file's order; raises HallmarkError."""
    return _load(path, Published, "row")


def load_curves(path: Path) -> list[PublishedCurve]:
    """The curves in the file's order; raises HallmarkError."""
    return _load(path, PublishedCurve, "curve")


def _load(path: Path, model: type[Read], noun: str) -> list[Read]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, list):
            raise HallmarkError(f"must be a list of {noun}s, got {said!r:.60}")
        read = [validated(model, entry, f"{noun} {number}") for number, entry in enumerate(said, 1)]
        _refuse_repeats(read, noun)
    except FileNotFoundError:
        raise HallmarkError(f"{path}: there is no such file") from None
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise HallmarkError(f"{path}: is not JSON ({error})") from None
    except HallmarkError as error:
        raise HallmarkError(f"{path}: {error}") from None
    return read


def _refuse_repeats(read: Sequence[Source], noun: str) -> None:
    said: set[tuple[str, ...]] = set()
    for number, entry in enumerate(read, 1):
        if entry.key() in said:
            raise HallmarkError(
                f"{noun} {number}: {entry.source} says this method at this eps already; merge the {noun}s"
            )
        said.add(entry.key())


#: The keys of an attack in ours, and the field in which the papers' rows have it.
ATTACKS = {"PGD-10": "pgd-10", "PGD-50": "pgd-50", "margin-20 / C&W": "margin-20", "AutoAttack": "autoattack"}
PUBLISHED = ("clean", "pgd_10", "pgd_50", "cw", "autoattack")
HEADS = ["method", "whose", "ε", "clean", *ATTACKS, "training", "images, seeds, device / source"]
HEAD = f"| {' | '.join(HEADS)} |\n|---|---|---|{'---:|' * (len(ATTACKS) + 2)}---|"
#: What papers say of two methods: first, second, the attack, the first's lead in points, the source.
LEADS = (
    ("regmix", "fgsm_pgk", "pgd-10", 1.38, "Liu and Ojha 2025, ResNet-18"),
    ("regmix", "fgsm_pgk", "autoattack", None, ""),
    ("d2r_cag", "d2r", "autoattack", 0.61, "Liu et al. 2025, table 2, WRN-34-10"),
    ("d2r_cag", "lbgat", "autoattack", 2.42, "Liu et al. 2025, table 1, WRN-34-10"),
)


def network_of(run: Result) -> str:
    """The network's name, with its width where that is not the published one."""
    width = run.settings["network"]["width"]
    return f"{run.network['name']}{f', width {width}' if width else ''}"


def table(results: Sequence[Result], published: Sequence[Published]) -> str:
    """One network's rows: ours by experiment, each over its seeds, then the papers' in the order of their file."""
    names = dict.fromkeys(run.name for run in results)
    lines = [line for name in names for line in ours([run for run in results if run.name == name])]
    return "\n".join([HEAD, *lines, *(theirs(row) for row in published)])


def ours(runs: Sequence[Result]) -> list[str]:
    """A line per radius of one experiment's runs."""
    first = runs[0]
    whose = f"ours{', reconstructed' if first.method.reconstructed else ''}"
    whose += " ⚑" if any(run.flags for run in runs) else ""
    seconds = float(np.mean([run.seconds.training for run in runs]))
    lines: list[str] = []
    for record in first.threats:
        threat = Threat.of(record).name
        cells = [_spread([run.accuracy.clean for run in runs])]
        cells += [_spread([share for run in runs if (share := run.under(threat, key))]) for key in ATTACKS.values()]
        title = method_title(first)
        lines.append(_line(title, whose, threat_title(record), *cells, f"{seconds / 60:.0f} min", _about(runs, threat)))
    return lines


def method_title(run: Result) -> str:
    """The method, and the experiment's name where it says more: `pgd_at (resnet20-pgd_at-awp)`."""
    plain = run.name in (run.method.name, f"{run.network['name']}-{run.method.name}")
    return run.method.name if plain else f"{run.method.name} ({run.name})"


def theirs(row: Published) -> str:
    """A published row in the same columns."""
    cells = ["" if (value := getattr(row, field)) is None else f"{value:.2f}" for field in PUBLISHED]
    whose = "published, third party" if row.third_party else "published"
    runs = "" if row.runs is None else f"; {row.runs} run{'s' if row.runs > 1 else ''}"
    norm = {"linf": "l∞", "l2": "l2", "l1": "l1"}[row.norm]
    return _line(row.method, whose, f"{norm} {row.eps}", *cells, "", f"{row.source}; epoch: {row.selection}{runs}")


def leads(results: Sequence[Result]) -> list[str]:
    """What the papers' claims come to in these runs of one network, a sentence each; none where a side is missing."""
    lines: list[str] = []
    for first, second, attack, points, source in LEADS:
        sides = [_plain_runs(results, name) for name in (first, second)]
        threat = next((runs[0].main_threat().name for runs in sides if runs), "")
        outcomes = [
            {run.seed: share.outcomes() for run in runs if (share := run.under(threat, attack)) is not None}
            for runs in sides
        ]
        found = seed_differences(first, outcomes[0], second, outcomes[1])
        claim = f" The paper: +{points:.2f} points ({source})." if points is not None else ""
        lines += [f"{threat}, {attack}: {line}.{claim}" for line in found]
    return lines


def _plain_runs(results: Sequence[Result], method: str) -> list[Result]:
    return [run for run in results if run.method.name == method and method_title(run) == method]


def _about(runs: Sequence[Result], threat: str) -> str:
    """How many images each number is of, the seeds and the device."""
    counts = {key: share.n for key in ATTACKS.values() if (share := runs[0].under(threat, key))}
    most = max(counts.values(), default=0)
    fewer = "".join(f", {key} {count}" for key, count in counts.items() if count != most)
    seeds = ", ".join(str(run.seed) for run in runs)
    return f"clean {runs[0].sample.size}, attacks {most}{fewer}; seed{'s' if len(runs) > 1 else ''} {seeds}; {_device(runs[0])}"


def _device(run: Result) -> str:
    elsewhere = run.trained_on and run.trained_on != run.device
    return f"{run.trained_on}, attacked on {run.device}" if elsewhere else run.device


def _spread(shares: Sequence[Share]) -> str:
    return SeedSpread.of(shares).say() if shares else ""


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
