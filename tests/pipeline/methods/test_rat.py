"""RAT against its formula: the targets from class-wise gradients, the four Taylor terms, and the noisy copy's images."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.methods import Method
from pipeline.methods.method import last_linear
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import (
    CLASSES,
    assert_same_loss,
    build,
    cross_entropy,
    kl_batchmean,
    kl_terms,
    log_p,
)

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def class_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Σ_d ∂CE/∂W_cd, on a copy in train mode."""
    copied = copy.deepcopy(network).train()
    (gradient,) = torch.autograd.grad(cross_entropy(copied(images), labels), copied.linear.weight)
    return gradient.sum(dim=1).tolist()


def divergence(gaps: list[float], labels: Tensor, logits: Tensor) -> Tensor:
    """mean_i KL(q‖p), with ½ on the own class of four and the other half in proportion to gap minus the least gap."""
    loss = torch.zeros(())
    for row, label in enumerate(labels.tolist()):
        others = {k: gaps[k] - min(gaps) for k in range(CLASSES) if k != label}
        q = {k: 0.5 * value / sum(others.values()) for k, value in others.items()} | {label: 0.5}
        loss = loss + sum(
            share * (torch.tensor(share).log() - log_p(logits)[row, k]) for k, share in q.items() if share
        )
    return loss / len(labels)


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 6.0), (0.9, 0.0)])
def test_the_loss_is_the_official_codes(alpha: float, beta: float):
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        g = class_gradients(method.target, batch.images, batch.labels)
        h = class_gradients(method.target, PERTURBED, batch.labels)
        first = [abs(a) - abs(b) for a, b in zip(g, h, strict=True)]
        second = [b**2 - a**2 for a, b in zip(g, h, strict=True)]
        n, a = method.target(batch.images), method.target(PERTURBED)
        taylor = divergence(first, batch.labels, a) + divergence([-gap for gap in first], batch.labels, n)
        taylor = taylor + 0.5 * (divergence(second, batch.labels, a) + divergence(second, batch.labels, n))
        return (1 - alpha) * cross_entropy(n, batch.labels) + alpha / 2 * taylor + beta * kl_batchmean(n, a)

    assert_same_loss(build("rat", alpha=alpha, beta=beta), expected, checks.total(batch, PERTURBED))


def test_the_images_are_trades_against_a_copy_with_noisy_convolutions():
    method, batch = build("rat", weight_noise=0.3), by_hand.batch()
    kept = method.target.convolution.weight.clone()
    torch.manual_seed(4)
    noisy = copy.deepcopy(method.target).eval()
    with torch.no_grad():
        noisy.convolution.weight.add_(0.3 * torch.randn_like(noisy.convolution.weight))
    clean = noisy(batch.images).detach()
    start = batch.images + 0.001 * torch.randn(batch.images.shape)
    wanted = checks.ascend_by_hand(
        start, batch.images, checks.evaluated(noisy, lambda logits: kl_terms(clean, logits).sum()), share=0.25
    )
    torch.manual_seed(4)
    images = method.perturb(batch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)
    assert torch.equal(method.target.convolution.weight, kept)


def test_under_autocast_the_loss_sees_the_weights_without_their_noise():
    """Autocast keeps what it has cast: without care the noisy weights would be trained on."""
    torch.set_default_dtype(torch.float32)
    method = by_hand.build("rat", weight_noise=0.5).float()
    batch = replace(by_hand.batch(), images=by_hand.batch().images.float())
    found = []
    for crafted in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            copied = copy.deepcopy(method)
            if crafted:
                copied.perturb(batch)
            found.append(checks.total(batch, PERTURBED.float())(copied).detach())
    assert torch.equal(*found)


def test_equal_gradients_divide_by_nothing():
    method, batch = build("rat"), by_hand.batch()
    terms = method.losses(batch, batch.images.clone())
    assert torch.isfinite(torch.stack(list(terms.values()))).all()


def test_crafting_leaves_all_alone_and_the_class_gradients_end_at_the_last_layer():
    checks.assert_crafting_leaves_all_alone(build("rat"), by_hand.batch())
    method = build("rat")
    forward, backward = checks.passes_of(method, by_hand.batch())
    assert (forward, backward - 2) == method.passes
    with pytest.raises(HallmarkError, match="needs a network with a linear layer at its end"):
        last_linear(nn.Conv2d(1, 1, 1))


def test_settings_and_schedule_are_the_official_codes():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "rat"}})
    assert (params.method["alpha"], params.method["beta"], params.method["weight_noise"]) == (0.2, 6.0, 1e-4)
    assert (params.train.epochs, params.train.weight_decay) == (200, 5e-4)
