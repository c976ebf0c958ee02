"""GAIRAT against its formula: κ, the weights, the loss, and when images begin to be weighed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from pipeline.attacks.ascent import random_start
from pipeline.methods import Method
from pipeline.methods.gairat import Geometry
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, clip, cross_entropy, log_p

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
KAPPA = torch.tensor([0.0, 10.0, 5.0, 3.0, 10.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("shift", "epoch"), [(-1.0, 4), (0.5, 9)])
def test_the_loss_weighs_images_by_how_early_they_are_broken(shift: float, epoch: int):
    batch = by_hand.batch(epoch=epoch)
    raw = [(1 + math.tanh(shift + 5 * (1 - 2 * kappa / 10))) / 2 for kappa in KAPPA.tolist()]

    def expected(method: Method) -> Tensor:
        values = log_p(method.target(PERTURBED))
        weighed = [
            -weight / sum(raw) * values[row, label]
            for row, (weight, label) in enumerate(zip(raw, batch.labels.tolist(), strict=True))
        ]
        return torch.stack(weighed).sum()

    assert_same_loss(build("gairat", **{"lambda": shift}), expected, checks.total(batch, Geometry(PERTURBED, KAPPA)))


def test_before_its_beginning_every_image_counts_the_same():
    """60 of 120 epochs, counted from 1: the last epoch without weights is the 59th."""
    for epoch, weighed in ((3, False), (4, True)):
        batch = by_hand.batch(epoch=epoch)
        method = build("gairat")
        found = method.losses(batch, Geometry(PERTURBED, KAPPA))["cross_entropy"]
        plain = cross_entropy(copy.deepcopy(method).target(PERTURBED), batch.labels)
        assert bool((found - plain).abs() > 1e-3) == weighed


def test_images_and_kappa_are_the_loop_written_by_hand():
    method, batch = build("gairat"), by_hand.batch(12)
    target = copy.deepcopy(method.target).eval()
    torch.manual_seed(5)
    images, kappa = random_start(batch.images, THREAT), torch.zeros(12)
    for _ in range(10):
        images = images.detach().requires_grad_()
        logits = target(images)
        kappa += logits.argmax(1) == batch.labels
        (gradient,) = torch.autograd.grad(cross_entropy(logits, batch.labels), images)
        images = clip(images.detach() + 0.007 / 0.031 * THREAT.eps * gradient.sign(), batch.images, THREAT.eps)
    torch.manual_seed(5)
    found = method.perturb(batch)
    torch.testing.assert_close(found.images, images.detach(), rtol=0, atol=1e-12)
    assert torch.equal(found.kappa, kappa) and len(kappa.unique()) > 1
    checks.assert_in_ball(method.attacked(found), batch)


def test_weights_fall_with_kappa_and_have_mean_one():
    weights = build("gairat").weights(torch.arange(11.0))
    assert (weights.diff() < 0).all() and weights.mean() == pytest.approx(1)


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build("gairat"), by_hand.batch())
    assert checks.passes_of(build("gairat"), by_hand.batch()) == build("gairat").passes


def test_settings_are_the_papers():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "gairat"}})
    assert params.method["lambda"] == -1.0 and params.method["begin"] == 0.5
    assert (params.train.epochs, params.train.milestones, params.train.weight_decay) == (120, [0.5, 0.75], 2e-4)
