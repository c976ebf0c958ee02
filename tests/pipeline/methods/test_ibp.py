"""IBP against its formula: the bounds by hand in float64, both terms, their weights over time, and what it certifies."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Threat
from pipeline.certification.program import UnprovableError
from pipeline.methods import Method, Task, method_class
from pipeline.methods.ibp import IBP
from pipeline.networks import build_network
from pipeline.params import ParamsError
from pipeline.resolve import complete
from pipeline.training.optimisation import radius_share
from tests.pipeline.certification.soundness import assert_sound
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, cross_entropy


def layer_by_hand(lower: Tensor, upper: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and largest W x + b: positive weights meet their own end, negative ones the other."""
    positive, negative = weight.clamp_min(0), weight.clamp_max(0)
    return lower @ positive.T + upper @ negative.T + bias, upper @ positive.T + lower @ negative.T + bias


def dense(module: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The matrix and the bias of an affine module on images of this shape, with their graph."""
    count = int(np.prod(shape))
    zero = module(torch.zeros(1, *shape)).flatten(1)
    return (module(torch.eye(count).view(-1, *shape)).flatten(1) - zero).T, zero[0]


def worst_by_hand(network: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The largest logit minus the label's, for every class and the whole box, for by_hand's network in eval mode."""
    lower, upper = ((images + sign * eps).clamp(0, 1).flatten(1) for sign in (-1, 1))
    affine = nn.Sequential(network.convolution, copy.copy(network.normalisation).eval())
    lower, upper = (torch.tanh(end) for end in layer_by_hand(lower, upper, *dense(affine, by_hand.SHAPE)))
    weight, bias = network.linear.weight, network.linear.bias
    rows = [
        layer_by_hand(lower[n, None], upper[n, None], weight - weight[label], bias - bias[label])[1][0]
        for n, label in enumerate(labels.tolist())
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(("kappa", "share"), [(0.5, 1.0), (0.5, 0.25), (0.0, 1.0), (0.2, 0.6)])
def test_the_loss_is_the_mean_of_clean_and_worst_cross_entropy(kappa: float, share: float):
    """κ and eps by the share of the warm-up that is done; the intervals see running statistics, the clean pass its own."""
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        weight = 1 - (1 - kappa) * share
        worst = worst_by_hand(method.target, batch.images, batch.labels, share * THREAT.eps)
        running = cross_entropy(worst, batch.labels)
        return weight * cross_entropy(method.target(batch.images), batch.labels) + (1 - weight) * running

    method = build("ibp", kappa=kappa)
    method.radius_share = share
    for network in by_hand.networks_of(method):
        network.normalisation.momentum = 0.0  # so that the order of the two passes is no part of the formula
    assert_same_loss(method, expected, checks.total(batch, batch.images))


def test_before_the_warm_up_only_clean_images_count_and_the_label_has_logit_zero():
    method, batch = build("ibp"), by_hand.batch()
    method.radius_share = 0.0
    terms = method.losses(batch, batch.images)
    assert list(terms) == ["cross_entropy", "interval"]
    assert terms["interval"] == 0 and terms["cross_entropy"] > 0
    worst = method.worst_logits(batch.images, batch.labels)
    assert (worst.gather(1, batch.labels[:, None]) == 0).all()


def test_the_worst_logits_are_no_better_than_any_point_of_the_ball():
    method, batch = build("ibp").eval(), by_hand.batch()
    worst = method.worst_logits(batch.images, batch.labels)
    for _ in range(200):
        moved = (batch.images + THREAT.eps * (2 * torch.rand_like(batch.images) - 1).sign()).clamp(0, 1)
        logits = method.target(moved)
        assert (logits - logits.gather(1, batch.labels[:, None]) <= worst + 1e-12).all()


def test_the_images_are_the_clean_ones():
    batch = by_hand.batch()
    assert build("ibp").perturb(batch) is batch.images
    checks.assert_crafting_leaves_all_alone(build("ibp"), batch)


def test_a_network_without_known_bounds_is_refused_in_one_sentence():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.GELU(), nn.Linear(4, 4))
    method = IBP(IBP.Settings(), Task(THREAT, 4, 12, by_hand.SHAPE), lambda role: network)
    with pytest.raises(UnprovableError, match="nothing proved: no bounds are known through GELU"):
        method.losses(by_hand.batch(), by_hand.batch().images)


@pytest.mark.parametrize("wrong", [{"kappa": -0.1}, {"kappa": 1.5}, {"steps": 3}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        build("ibp", **wrong)


def test_it_trains_in_linf_alone_and_warms_eps_up():
    with pytest.raises(ParamsError, match=r"threat\.norm: ibp trains in linf, got l2"):
        complete({"data": {"name": "digits"}, "method": {"name": "ibp"}, "threat": {"norm": "l2"}})
    train = complete({"data": {"name": "digits"}, "method": {"name": "ibp"}}).train
    assert radius_share(0, 100, train) < 0.05 and radius_share(60, 100, train) == 1.0


def test_a_few_steps_prove_what_was_not_proved_before_and_no_proof_is_broken():
    """Two classes of bright and dark images; the radius that is trained for is proved for most of them.

    Before, nothing above 4/255 is proved, after it nothing below 23/255: weights that differ by a hundred thousandth, far
    more than between processors, moved that by a quarter of a level.
    """
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    images = (0.3 + 0.4 * labels[:, None, None, None] + 0.05 * torch.randn(40, 1, 8, 8, generator=generator)).clamp(
        0, 1
    )
    task = Task(Threat("linf", 16), 2, 40, (1, 8, 8))
    method = IBP(IBP.Settings(), task, lambda role: build_network("plain4", classes=2, channels=1, width=8))
    optimiser = torch.optim.SGD(method.trained(), lr=0.05, momentum=0.9)
    levels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    before = assert_sound(method.target.eval(), levels, labels.numpy(), technique="ibp")
    for step in range(40):
        method.radius_share = min(1.0, step / 20)
        batch = replace(by_hand.batch(), images=images, labels=labels, index=torch.arange(40), step=step)
        optimiser.zero_grad()
        torch.stack(list(method.losses(batch, method.perturb(batch)).values())).sum().backward()
        nn.utils.clip_grad_norm_(method.parameters(), 10)
        optimiser.step()
    after = assert_sound(method.target.eval(), levels, labels.numpy(), technique="ibp")
    assert (before >= 16).mean() < 0.1 and (after >= 16).mean() > 0.9


def test_mixed_labels_take_the_bounds_of_their_largest_class():
    method, batch = build("ibp"), by_hand.batch()
    method.eval()
    mixed = 0.7 * functional.one_hot(batch.labels, 4) + 0.3 * functional.one_hot((batch.labels + 1) % 4, 4)
    worst = method.worst_logits(batch.images, batch.labels)
    expected = 0.5 * -(mixed * by_hand.log_p(worst)).sum(1).mean()
    torch.testing.assert_close(method.losses(replace(batch, labels=mixed), batch.images)["interval"], expected)


def test_it_is_in_the_registry():
    assert method_class("ibp") is IBP and IBP.trains_in == ("linf",)
