"""The planted test (Zimmermann, Brendel, Tramèr and Carlini 2022, arXiv 2206.13991): an attack must find what is there.

For each image the last linear layer is replaced by a binary one on the same features. It separates points well inside
the ball, the clean image among them (class 0), from one point on the ball's surface (class 1), and lies close to that
point. So an adversarial image exists in the ball for certain, and whoever knows the features' gradients should find
one. An attack that does not would miss others too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pipeline.attacks.margin import margin_pgd
from pipeline.attacks.pgd import pgd
from pipeline.attacks.starts import uniform_start
from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.item import Item, at_least
from pipeline.evaluation.sanity.planting import NoReadout, Planted, feature_extractor, plant, surface_point
from pipeline.evaluation.victim import Sample

#: images (N, C, H, W) to logits (N, 2), the readout of row i for image i; images; labels; index: to images in the ball.
Search = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]

#: The paper's own limit is 0.95 of hundreds of images; 0.9 lets an honest attack miss 3 of 32.
FOUND_WARN, FOUND_FAIL = 0.95, 0.9
#: Fewer test images than this decide nothing.
FEWEST = 8
STEPS = 50


def planted(
    network: nn.Module, part: Sample, threat: Threat, *, seed: int, searches: Mapping[str, Search] | None = None
) -> Item:
    """The share of planted images that the attacks find, among those that as many random points do not find.

    `part`: the images that are planted in (32 are enough). `searches`: attacks by name, by default PGD-50 and margin
    PGD-50 as the evaluation runs them; an image counts as found where one of them finds it.
    """
    searches = suite_searches(threat, seed) if searches is None else searches
    try:
        features = feature_extractor(network, part.images)
    except NoReadout as reason:
        return _nothing_planted(str(reason))
    test = plant(network, features, part, threat, seed=seed)
    hidden = test.planted & ~_found_by_chance(test, part, threat, seed)
    if hidden.sum() < FEWEST:
        return _nothing_planted(
            f"planted in {int(test.planted.sum())} of {len(part)} images, and random points found all but "
            f"{int(hidden.sum())} of these: too few for a test"
        )
    labels, found = torch.zeros_like(part.labels), torch.zeros_like(hidden)
    for search in searches.values():
        adversarial = search(test.model, part.images, labels, part.index)
        with torch.no_grad():
            found |= test.model(adversarial).argmax(1) == 1
    return at_least(
        "planted",
        float(found[hidden].double().mean()),
        warn=FOUND_WARN,
        fail=FOUND_FAIL,
        meaning=f"share of {int(hidden.sum())} planted adversarial images that {' and '.join(searches)} find; of "
        f"{int(test.planted.sum())} planted, random points found {int((test.planted & ~hidden).sum())}",
    )


def suite_searches(threat: Threat, seed: int) -> dict[str, Search]:
    """PGD-50 and margin PGD-50, as the suite runs them."""

    def search(attack: Callable[..., Tensor]) -> Search:
        return lambda model, images, labels, index: attack(
            model, images, labels, threat=threat, seed=seed, index=index, steps=STEPS
        )

    return {f"pgd-{STEPS}": search(pgd), "margin": search(margin_pgd)}


@torch.no_grad()
def _found_by_chance(test: Planted, part: Sample, threat: Threat, seed: int) -> Tensor:
    """Images where one of as many random points as an attack has steps is class 1: half inside, half on the surface."""
    found = torch.zeros_like(test.planted)
    for number in range(STEPS // 2):
        inside = uniform_start(part.images, threat, seed=seed + 3, index=part.index, restart=number)
        for points in (inside, surface_point(part, threat, seed=seed + 4, number=number)):
            found |= test.model(points).argmax(1) == 1
    return found


def _nothing_planted(reason: str) -> Item:
    """A test that could not be held neither passes nor fails."""
    return at_least("planted", 0.0, warn=FOUND_WARN, fail=0.0, meaning=f"not tested: {reason}")
