"""Square through HTTP: whether so many queries break images that every attested attack left right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.live.asking import Asker
from audit.live.questions import Question
from audit.live.report import Square
from bundle.bundle import Bundle
from bundle.claims import ALL_ATTACKS, find_claim
from bundle.headline import attack_names, headline_threat
from bundle.square import square
from bundle.threats import Threat

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
