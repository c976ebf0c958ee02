"""FAT against its algorithm, image by image as the paper has it, and its steps past the first error over the epochs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pipeline.attacks.ascent import random_start
from pipeline.methods import Batch, Method
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, clip, cross_entropy

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def by_algorithm(method: Method, batch: Batch, tau: int, steps: int, noise: float) -> tuple[Tensor, Tensor]:
    """Algorithm 1, one image after another, on the random numbers of the batch; the images and the steps each made."""
    target = copy.deepcopy(method.target).eval()
    starts = random_start(batch.images, THREAT)
    noises = [noise * torch.randn_like(starts) for _ in range(steps)]
    found, made = [], []
    for row, label in enumerate(batch.labels):
        clean, point, left, count = batch.images[row, None], starts[row, None], tau, 0
        for step in range(steps):
            point = point.detach().requires_grad_()
            logits = target(point)
            if logits.argmax() != label:
                if left == 0:
                    break
                left -= 1
            (gradient,) = torch.autograd.grad(cross_entropy(logits, label[None]), point)
            moved = point.detach() + 0.007 / 0.031 * THREAT.eps * gradient.sign() + noises[step][row]
            point, count = clip(moved, clean, THREAT.eps), count + 1
        found.append(point.detach())
        made.append(count)
    return torch.cat(found), torch.tensor(made)


@pytest.mark.parametrize(("epoch", "tau"), [(0, 0), (4, 1), (7, 2)])
def test_the_images_are_those_of_the_algorithm_image_by_image(epoch: int, tau: int):
    method, batch = build("fat", tau_rises=[0.4, 0.7]), by_hand.batch(12, epoch=epoch)
    torch.manual_seed(7)
    wanted, made = by_algorithm(method, batch, tau, 10, 0.001)
    assert len(made.unique()) > 1 and made.min() <= tau + 1, "images stop at different steps, some at once"
    torch.manual_seed(7)
    images = method.perturb(batch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)


def test_without_an_end_it_is_pgd():
    method, batch = build("fat", tau_rises=[0.0] * 20, noise=0.0), by_hand.batch()
    torch.manual_seed(3)
    wanted = checks.ascend_by_hand(
        random_start(batch.images, THREAT),
        batch.images,
        checks.evaluated(method.target, lambda logits: cross_entropy(logits, batch.labels)),
        share=0.007 / 0.031,
    )
    torch.manual_seed(3)
    torch.testing.assert_close(method.perturb(batch), wanted, rtol=0, atol=1e-12)


def test_the_loss_is_cross_entropy():
    batch = by_hand.batch()
    assert_same_loss(
        build("fat"),
        lambda method: cross_entropy(method.target(PERTURBED), batch.labels),
        checks.total(batch, PERTURBED),
    )


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build("fat"), by_hand.batch())
    assert checks.passes_of(build("fat"), by_hand.batch()) == build("fat").passes


def test_tau_rises_after_epochs_50_and_90_of_120_counted_from_1():
    method = build("fat")
    taus = [method.tau(Batch(*[torch.zeros(1)] * 3, epoch, 120, 0)) for epoch in range(120)]
    assert taus == [0] * 50 + [1] * 40 + [2] * 30
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "fat"}})
    assert (params.train.epochs, params.train.lr, params.train.weight_decay) == (120, 0.1, 2e-4)
