"""The papers' numbers, as results/published.json and results/published-curves.json repeat them.

Each row and curve names its source and says eps, selection and runs as the source does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from bundle.errors import HallmarkError
from pipeline.params import Section, validated

Percent = Annotated[float, Field(ge=0, le=100)]
Epoch = Annotated[int, Field(ge=1)]
Norm = Literal["linf", "l2", "l1"]
#: What JSON writes as a list: (epochs trained, clean, robust), shares in per cent.
Point = Annotated[tuple[Epoch, Percent, Percent], Field(strict=False)]
Read = TypeVar("Read", bound="Source")


class PublishedError(HallmarkError):
    """A file of published numbers is missing or says something wrong."""


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
    selection: str = Field("not stated", min_length=1)
    runs: int | None = Field(None, ge=1)
    source: str = Field(min_length=1)

    def key(self) -> tuple[str, ...]:
        """What may be said once: data set, network, method, norm, eps without its remark, source."""
        return (self.dataset, self.network, self.method, self.norm, self.eps.split(",")[0].strip(), self.source)


class Published(Source):
    """What a source says of a method's accuracy; shares in per cent, null where it says nothing.

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
    """The rows in the file's order; raises PublishedError."""
    return _load(path, Published, "row")


def load_curves(path: Path) -> list[PublishedCurve]:
    """The curves in the file's order; raises PublishedError."""
    return _load(path, PublishedCurve, "curve")


def _load(path: Path, model: type[Read], noun: str) -> list[Read]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, list):
            raise PublishedError(f"must be a list of {noun}s, got {said!r:.60}")
        read = [validated(model, entry, f"{noun} {number}") for number, entry in enumerate(said, 1)]
        _refuse_repeats(read, noun)
    except FileNotFoundError:
        raise PublishedError(f"{path}: there is no such file") from None
    except OSError as error:
        raise PublishedError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise PublishedError(f"{path}: is not JSON ({error})") from None
    except HallmarkError as error:
        raise PublishedError(f"{path}: {error}") from None
    return read


def _refuse_repeats(read: Sequence[Source], noun: str) -> None:
    said: set[tuple[str, ...]] = set()
    for number, entry in enumerate(read, 1):
        if entry.key() in said:
            raise PublishedError(
                f"{noun} {number}: {entry.source} says this method at this eps already; merge the {noun}s"
            )
        said.add(entry.key())
