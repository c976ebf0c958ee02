"""The planted test (Zimmermann, Brendel, Tramèr and Carlini 2022, arXiv 2206.13991): an attack must find what is there.

For each image the last linear layer is replaced by a binary one on the same features, a readout. It separates points well
inside the ball, the clean image among them (class 0), from one point on the ball's surface (class 1), and lies close to
that point. So an adversarial image exists in the ball for certain, and whoever knows the features' gradients should find
one. An attack that does not would miss others too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.attacks.pgd import margin, margin_pgd, pgd
from pipeline.attacks.threat import Threat, project, uniform_start
from pipeline.evaluation.sanity.measured import Item, at_least
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
    """The fraction of planted images that the attacks find, among those that as many random points do not find.

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


Features = Callable[[Tensor], Tensor]

#: Points inside, in a ball of eps times this factor, and surface points of which one is planted.
INNER, FACTOR, CANDIDATES = 64, 0.75, 16
#: Where the readout's threshold lies between the highest point inside and the planted point: close to the latter, so
#: that only a small part of the ball is class 1.
CLOSENESS = 0.95
#: Weight of the identity in the covariance, as a fraction of its mean variance. With less (0.1) the readout follows a few
#: points into corners of the feature space that PGD reaches from some starts only: 80 % found on an honest network.
RIDGE = 1.0
_WHOLE_RANGE = Threat("linf", 127.5)


class NoReadout(Exception):
    """The network's logits do not come from a linear layer that can be replaced."""


def feature_extractor(network: nn.Module, images: Tensor) -> Features:
    """What the network's last linear layer is given, (N, D), with its graph.

    Raises NoReadout where the logits are not the very output of an nn.Linear on one vector an image.
    """
    calls: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: object, output: Tensor) -> None:
        calls.append((layer, output))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, nn.Linear)]
    try:
        with torch.no_grad():
            logits = network(images[:2])
    finally:
        for hook in hooks:
            hook.remove()
    if not calls or calls[-1][1].shape != logits.shape or not torch.equal(calls[-1][1], logits):
        raise NoReadout("the logits are not the output of a linear layer, so nothing could be planted")
    readout = calls[-1][0]

    def features(batch: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = readout.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        try:
            network(batch)
        finally:
            hook.remove()
        return seen[-1]

    return features


@dataclass(frozen=True)
class Planted:
    """The network with a readout for each image: logit of class 1 = weights · features + bias, (N, D) and (N,).

    `planted`: the images where a readout that separates was found, (N,).
    """

    features: Features
    weights: Tensor
    bias: Tensor
    planted: Tensor

    def model(self, images: Tensor) -> Tensor:
        """Logits (N, 2) of images (N, C, H, W) in the order of the sample."""
        score = (self.features(images) * self.weights).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


@torch.no_grad()
def plant(network: nn.Module, features: Features, part: Sample, threat: Threat, *, seed: int) -> Planted:
    """Fits the readouts: Fisher's linear discriminant of the points inside against each candidate on the surface.

    Of the candidates the one that lies farthest beyond all points inside is planted, and the readout is scaled so that
    the clean image's margin is what the network's own is in the median.
    """
    inside = [
        part.images,
        *(uniform_start(part.images, threat.scaled(FACTOR), seed=seed + 1, index=part.index, restart=n) for n in range(INNER)),
    ]  # fmt: skip
    surface = [surface_point(part, threat, seed=seed + 2, number=number) for number in range(CANDIDATES)]
    inner, outer = (torch.stack([features(points).double() for points in group], 1) for group in (inside, surface))
    center, directions = inner.mean(1, keepdim=True), discriminants(inner, outer)
    inner_scores = torch.einsum("nid,ncd->nci", inner - center, directions)
    outer_scores = torch.einsum("ncd,ncd->nc", outer - center, directions)
    beyond = (outer_scores - inner_scores.amax(2)) / inner_scores.std(2).clamp_min(torch.finfo(torch.float64).tiny)
    chosen = beyond.argmax(1)
    rows = torch.arange(len(part), device=chosen.device)
    weights, clean, highest = (
        directions[rows, chosen],
        inner_scores[rows, chosen, 0],
        inner_scores.amax(2)[rows, chosen],
    )
    threshold = highest + CLOSENESS * (outer_scores[rows, chosen] - highest)
    logits = network(part.images).double()
    size = margin(logits, logits.argmax(1)).median()
    scale = size / (threshold - clean).clamp_min(torch.finfo(torch.float64).tiny)
    bias = -scale * (threshold + (center.squeeze(1) * weights).sum(1))
    readout = (scale[:, None] * weights).to(part.images), bias.to(part.images)
    test = Planted(features, *readout, planted=beyond[rows, chosen] > 0)
    # In float32, as the attacks will see it: the clean image is class 0 and the planted point class 1.
    points = torch.stack(surface, 1)[rows, chosen]
    certain = (test.model(part.images).argmax(1) == 0) & (test.model(points).argmax(1) == 1)
    return Planted(features, *readout, planted=test.planted & certain)


def surface_point(part: Sample, threat: Threat, *, seed: int, number: int) -> Tensor:
    """A random point on the ball's surface, cut to [0, 1]: a corner for l∞, a uniform direction for l2 and l1."""
    # Uniform in [-0.5, 0.5], by image index as every random start is.
    middle = torch.full_like(part.images, 0.5)
    moves = uniform_start(middle, _WHOLE_RANGE, seed=seed, index=part.index, restart=number) - middle
    if threat.norm == "linf":
        return project(part.images + threat.eps * moves.sign(), part.images, threat)
    order = 2 if threat.norm == "l2" else 1
    length = moves.flatten(1).norm(order, dim=1).view(-1, 1, 1, 1)
    return project(part.images + threat.eps * moves / length, part.images, threat)


def discriminants(inner: Tensor, outer: Tensor) -> Tensor:
    """Multiples of (S + ridge · I)⁻¹ (outer − mean of inner), S the covariance of inner; (N, candidates, D), float64.

    `inner` (N, points, D), `outer` (N, candidates, D). Solved in the space of the points, which are fewer than a large
    network's features.
    """
    center, count = inner.mean(1, keepdim=True), inner.shape[1]
    spread, gaps = inner - center, outer - center
    variance = spread.square().sum(1).mean(1) / (count - 1)
    ridge = RIDGE * variance.clamp_min(torch.finfo(variance.dtype).tiny)
    gram = spread @ spread.mT + (count - 1) * ridge[:, None, None] * torch.eye(count).to(inner)
    return gaps - torch.linalg.solve(gram, spread @ gaps.mT).mT @ spread
