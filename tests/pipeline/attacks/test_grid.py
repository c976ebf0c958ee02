"""Successes on the 8-bit grid: kept where the ball allows, counted where not, and never outside of the ball."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import NORMS, Norm, Threat
from pipeline.attacks.grid import search_grid
from pipeline.attacks.pgd import margin, pgd
from pipeline.attacks.threat import project, to_grid
from pipeline.networks.blocks import to_unit
from tests.pipeline.attacks.classifiers import perceptron

SIZES: dict[Norm, float] = {"linf": 6, "l2": 0.08, "l1": 0.25}


class Score(nn.Module):
    """Two classes on both sides of a linear score: what the grid has can be counted by trying every image."""

    def __init__(self, weight: list[float], threshold: float) -> None:
        super().__init__()
        self.weight, self.threshold = torch.tensor(weight), threshold

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight - self.threshold
        return torch.stack([-score, score], dim=1)


def inside(threat: Threat, clean: Tensor, images: Tensor) -> np.ndarray:
    return threat.inside(clean.permute(0, 2, 3, 1).numpy(), images.permute(0, 2, 3, 1).numpy())


def barely(norm: Norm, count: int = 120) -> tuple[nn.Module, Tensor, Tensor, Tensor, Threat]:
    """A perceptron and images moved exactly until it changes its mind: the smallest successes that there are."""
    network = perceptron(5, dtype=torch.float32)
    clean = torch.randint(0, 256, (count, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels, threat = network(to_unit(clean)).argmax(1), Threat(norm, SIZES[norm])
    far = pgd(network, to_unit(clean), labels, threat=threat, seed=0, index=torch.arange(count), steps=20)
    broken = network(far).argmax(1) != labels
    near, far = to_unit(clean)[broken], far[broken]
    clean, labels = clean[broken], labels[broken]
    start = near
    for _ in range(18):
        middle = (near + far) / 2
        wrong = (network(middle).argmax(1) != labels)[:, None, None, None]
        near, far = torch.where(wrong, near, middle), torch.where(wrong, middle, far)
    assert torch.equal(project(far, start, threat), far) or norm != "linf"
    return network, far, clean, labels, threat


@pytest.mark.parametrize("norm", NORMS)
def test_hairs_breadth_successes_are_kept_inside_the_ball(norm: Norm):
    network, images, clean, labels, threat = barely(norm)
    before = search_grid(network, images, clean, labels, threat, rounds=0)
    found = search_grid(network, images, clean, labels, threat)
    assert torch.equal(before.images, to_grid(images, clean, threat))
    assert before.lost >= 8, "16 or more; a rounding to another level may decide for one of them otherwise"
    assert found.lost <= before.lost / 10
    wrong = network(to_unit(found.images)).argmax(1) != labels
    assert int((~wrong).sum()) == found.lost, "lost is what is right again"
    assert inside(threat, clean, found.images).all() and found.images.dtype == torch.uint8
    untouched = network(to_unit(before.images)).argmax(1) != labels
    assert torch.equal(found.images[untouched], before.images[untouched])
    assert torch.equal(search_grid(network, images, clean, labels, threat).images, found.images)


@pytest.mark.parametrize("norm", NORMS)
def test_what_was_right_in_floats_is_not_searched(norm: Norm):
    network, _, clean, labels, threat = barely(norm)
    found = search_grid(network, to_unit(clean), clean, labels, threat)
    assert torch.equal(found.images, clean) and found.lost == 0


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_nearly_every_success_that_exists_is_found(norm: Norm):
    """Three pixels, a linear score: every grid image in the ball is tried. Budgets are full, so levels must be traded."""
    generator = torch.Generator().manual_seed(3)
    threat, clean = Threat(norm, 9.4 / 255), torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
    steps = np.array(list(itertools.product(range(-9, 10), repeat=3)))
    spent = np.abs(steps).sum(1) if norm == "l1" else (steps**2).sum(1)
    steps = steps[spent <= threat.levels]
    undone = kept = 0
    for _ in range(60):
        weight, direction = torch.rand(2, 3, generator=generator)
        images = project(to_unit(clean) + direction.view(1, 1, 1, 3), to_unit(clean), threat)
        model = Score(weight.tolist(), float(images.flatten() @ weight) - 1e-5)
        exists = (steps @ weight.double().numpy() + 100 * float(weight.sum())).max() / 255 > model.threshold + 1e-6
        lost = [search_grid(model, images, clean, torch.zeros(1).long(), threat, rounds=n).lost for n in (0, 20)]
        assert exists or lost == [1, 1]
        undone, kept = undone + (lost[0] and exists), kept + (lost[0] and not lost[1])
    assert undone >= 15 and kept >= 0.95 * undone


@pytest.mark.parametrize("norm", NORMS)
def test_a_success_that_the_grid_does_not_have_is_lost_and_counted(norm: Norm):
    """A float image on the ball's very edge of a linear score, when the ball's radius is no whole number of levels."""
    threat = {"linf": Threat("linf", 3.5), "l2": Threat("l2", 3.5 / 255), "l1": Threat("l1", 3.5 / 255)}[norm]
    model = Score([1.0, 0.0], 103.4 / 255)
    clean = torch.full((3, 1, 1, 2), 100, dtype=torch.uint8)
    images = to_unit(clean)
    images[..., 0] += 3.5 / 255

    labels = torch.zeros(3, dtype=torch.long)
    assert (model(images).argmax(1) == 1).all()
    found = search_grid(model, images, clean, labels, threat)
    assert found.lost == 3 and inside(threat, clean, found.images).all()
    assert torch.equal(found.images, to_grid(images, clean, threat)), "what failed is the nearest image"


def test_the_search_lowers_margins_by_the_best_exchange():
    """One pixel holds the whole l1 budget, another gains three times as much a level: one level changes hands a round."""
    model = Score([1.0, 3.0, 0.1], (410 + 5.2) / 255)
    clean = torch.full((1, 1, 1, 3), 100, dtype=torch.uint8)
    images = to_unit(clean)
    images[..., 0] += 5.4 / 255

    labels = torch.zeros(1, dtype=torch.long)
    found = search_grid(model, images, clean, labels, Threat("l1", 5.4 / 255))
    assert found.images.flatten().tolist() == [104, 101, 100] and found.lost == 0
    assert margin(model(to_unit(found.images)), labels) < 0
