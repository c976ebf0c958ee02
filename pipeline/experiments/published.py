"""The papers' numbers: results/published.json, each row with its source and its eps as the source says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bundle.errors import HallmarkError
from pipeline.params import Section, validated

Percent = Annotated[float, Field(ge=0, le=100)]


class PublishedError(HallmarkError):
    """The file of published numbers is missing or says something wrong."""


class Published(Section):
    """What a source says of a method; shares in per cent, null where it says nothing.

    A row has one eps: a source that mixes them has several rows. `cw` is PGD-20 with the margin loss, as these papers
    do it. `third_party`: measured by others than the method's authors.
    """

    dataset: str
    network: str
    method: str
    eps: str
    clean: Percent | None = None
    pgd_10: Percent | None = None
    pgd_50: Percent | None = None
    cw: Percent | None = None
    autoattack: Percent | None = None
    third_party: bool = False
    source: str = Field(min_length=1)


def load_published(path: Path) -> list[Published]:
    """The rows in the file's order; raises PublishedError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        published = [validated(Published, row, f"row {number}") for number, row in enumerate(rows, 1)]
    except FileNotFoundError:
        raise PublishedError(f"{path}: there is no such file") from None
    except ValueError as error:
        raise PublishedError(f"{path}: is not JSON ({error})") from None
    except HallmarkError as error:
        raise PublishedError(f"{path}: {error}") from None
    said: set[tuple[str, ...]] = set()
    for number, row in enumerate(published, 1):
        key = (row.dataset, row.network, row.method, row.source, "0.031" if row.eps.startswith("0.031") else "")
        if key in said:
            raise PublishedError(
                f"{path}: row {number}: {row.source} says this method at this eps already; merge the rows"
            )
        said.add(key)
    return published
