"""What a service is asked: the images of the evidence, and images that nobody has seen before.

Square through HTTP: whether so many queries break images that every attested attack left right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.live.report import Square
from audit.live.service import Asker
from audit.verification import TEST_SPLIT, read_split
from bundle.bundle import Bundle
from bundle.errors import HallmarkError
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.pages.headline import attack_names, headline_threat
from bundle.private import CLEAN, image_sets
from bundle.square.search import square
from bundle.table.outcomes import image_digests
from bundle.table.threats import Threat

Images = NDArray[np.uint8]

#: How far a noisy image lies from the one that it was made of, in levels.
NOISE_LEVELS = 32


@dataclass(frozen=True)
class Question:
    """Images uint8 (N, H, W, C) to ask about.

    `name` says what they are. Images of the evidence, and images nudged from them, have the name of their set in
    `evidence` (`clean`, THREAT/ATTACK) and their rows of the outcome table in `rows` (N,); fresh images have their classes
    in `labels` (N,).
    """

    name: str
    images: Images
    evidence: str | None = None
    rows: NDArray[np.int64] | None = None
    labels: NDArray[np.int64] | None = None

    @property
    def exact(self) -> bool:
        """Whether these are images of the evidence as they are attested."""
        return self.evidence == self.name


def drawn_rows(size: int, most: int | None, generator: np.random.Generator) -> NDArray[np.int64]:
    """At most so many of `size` rows, without order; all where `most` is None."""
    if most is None or most >= size:
        return np.arange(size)
    return np.sort(generator.choice(size, most, replace=False))


def evidence_questions(bundle: Bundle, rows: NDArray[np.int64], folder: Path | None) -> list[Question]:
    """The images of these rows in every set of the evidence.

    Where they are withheld, only the clean ones, by their index from the test split in `folder`; [] without one. Raises
    HallmarkError where that is another split.
    """
    if bundle.evidence == "open":
        return [Question(name, bundle.images[name][rows], name, rows) for name in image_sets(bundle.predicate)]
    if folder is None:
        return []
    images, labels = _split(bundle, folder)
    index = bundle.outcomes["index"][rows]
    if index.max() >= len(images) or np.any(labels[index] != bundle.outcomes["label"][rows]):
        raise HallmarkError(f"{folder / TEST_SPLIT}: is not the test split of the evidence: the labels are others")
    return [Question(CLEAN, images[index], CLEAN, rows)]


def nudged(questions: list[Question], generator: np.random.Generator) -> Iterator[Question]:
    """Every image with one value changed by one level, so that no look-up by its bytes finds it."""
    for question in questions:
        flat = question.images.reshape(len(question.images), -1).astype(np.int16)
        places = generator.integers(flat.shape[1], size=len(flat))
        here = np.arange(len(flat)), places
        steps = generator.choice(np.array([-1, 1], np.int16), len(flat))
        flat[here] += np.where(flat[here] == 0, 1, np.where(flat[here] == 255, -1, steps)).astype(np.int16)
        images = flat.astype(np.uint8).reshape(question.images.shape)
        yield Question(f"{question.name}, one level changed", images, question.evidence, question.rows)


def unseen(clean: Images, generator: np.random.Generator) -> Iterator[Question]:
    """Images made at random: noise on `clean` images, pairs of them mixed half and half, and noise alone."""
    moved = clean + generator.integers(-NOISE_LEVELS, NOISE_LEVELS + 1, clean.shape)
    yield Question("noisy", np.clip(moved, 0, 255).astype(np.uint8))
    others = clean[generator.permutation(len(clean))]
    yield Question("mixed", ((clean.astype(np.int16) + others) // 2).astype(np.uint8))
    yield noise(clean.shape, generator)


def noise(shape: tuple[int, ...], generator: np.random.Generator) -> Question:
    """Images (N, H, W, C) of independent random levels."""
    return Question("noise", generator.integers(0, 256, shape, dtype=np.uint8))


def fresh(bundle: Bundle, folder: Path, most: int, generator: np.random.Generator) -> Question | None:
    """At most so many images of the test split that are not in the evidence; None where all of them are."""
    images, labels = _split(bundle, folder)
    taken = np.isin(np.arange(len(images)), bundle.outcomes["index"])
    if bundle.evidence == "open":
        taken |= np.isin(image_digests(images), bundle.outcomes["image_sha256"])
    left = np.flatnonzero(~taken)
    rows = left[drawn_rows(len(left), most, generator)]
    return Question("fresh", images[rows], labels=labels[rows]) if len(rows) else None


def _split(bundle: Bundle, folder: Path) -> tuple[Images, NDArray[np.int64]]:
    images, labels = read_split(folder / TEST_SPLIT)
    shape = tuple(bundle.predicate["data"]["shape"])
    if images.shape[1:] != shape:
        raise HallmarkError(f"{folder / TEST_SPLIT}: holds images of {images.shape[1:]}, the model takes {shape}")
    return images, labels.astype(np.int64)


#: Images that are searched; each may take the whole budget of queries.
IMAGES = 20


def searched_rows(right: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.int64]:
    """The places of at most IMAGES images among those that are answered right."""
    places = np.flatnonzero(right)
    return np.sort(generator.choice(places, min(IMAGES, len(places)), replace=False)).astype(np.int64)


def ask_square(
    asker: Asker, bundle: Bundle, images: NDArray[np.uint8], rows: NDArray[np.int64], queries: int, seed: int
) -> tuple[Square, Question]:
    """Searches the trained threat's ball around images uint8 (N, H, W, C) of the evidence, N ≥ 1.

    Parameters: `rows` (N,) are theirs in the outcome table; `queries` is the budget of each image. Returns what was
    found, and the images that it ended with, to be asked about once more.
    """
    described = headline_threat(bundle.predicate)
    threat, name = Threat.of(described), str(described["name"])
    labels = bundle.outcomes["label"][rows]
    found = square(
        asker.probabilities,
        images,
        labels,
        threat=threat,
        seed=seed,
        index=bundle.outcomes["index"][rows],
        queries=queries,
        probabilities=True,
    )
    robust = bundle.outcomes.robust("served", name, attack_names(bundle.predicate, name))[rows]
    attested = find_claim(bundle.predicate, "robust_accuracy", setting="served", threat=name, attack=ALL_ATTACKS)
    assert attested is not None
    counts = len(rows), int(found.broken.sum()), int((found.broken & robust).sum())
    return Square(name, queries, *counts, attested), Question("found by Square", found.images)
