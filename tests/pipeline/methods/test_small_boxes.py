"""SABR and MTL-IBP against their formulas: the small box, and the mixture of an attack and of bounds."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pipeline.methods import Method, method_class
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, cross_entropy
from tests.pipeline.methods.test_ibp import dense, layer_by_hand, worst_by_hand

PERTURBED = (by_hand.batch().images + THREAT.eps * (2 * torch.rand(6, *by_hand.SHAPE) - 1)).clamp(0, 1)


def build(name: str, **settings: object) -> Method:
    method = by_hand.build(name, **settings)
    for network in by_hand.networks_of(method):
        network.normalisation.momentum = 0.0  # so that the order of the passes is no part of the formula
    return method


def worst_in_a_box(network: torch.nn.Module, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
    """The largest logit minus the label's within bounds of the pixels, for by_hand's network in eval mode."""
    affine = torch.nn.Sequential(network.convolution, copy.copy(network.normalisation).eval())
    ends = layer_by_hand(lower.flatten(1), upper.flatten(1), *dense(affine, by_hand.SHAPE))
    lower, upper = (torch.tanh(end) for end in ends)
    weight, bias = network.linear.weight, network.linear.bias
    rows = [
        layer_by_hand(lower[n, None], upper[n, None], weight - weight[label], bias - bias[label])[1][0]
        for n, label in enumerate(labels.tolist())
    ]
    return torch.stack(rows)


def box_by_hand(images: Tensor, adversarial: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Pixel by pixel."""
    lower, upper = images.clone(), images.clone()
    for place, pixel in enumerate(images.flatten().tolist()):
        low, high = max(0.0, pixel - THREAT.eps), min(1.0, pixel + THREAT.eps)
        radius = share * (high - low) / 2
        centre = min(max(float(adversarial.flatten()[place]), low + radius), high - radius)
        lower.view(-1)[place], upper.view(-1)[place] = centre - radius, centre + radius
    return lower, upper


@pytest.mark.parametrize("share", [0.1, 0.7, 1.0])
def test_sabr_bounds_the_box_around_the_adversarial_image(share: float):
    batch, adversarial = by_hand.batch(), PERTURBED.double()
    lower, upper = box_by_hand(batch.images, adversarial, share)

    def expected(method: Method) -> Tensor:
        return cross_entropy(worst_in_a_box(method.target, lower, upper, batch.labels), batch.labels)

    assert_same_loss(build("sabr", **{"lambda": share}), expected, checks.total(batch, adversarial))


def test_sabr_with_the_whole_ball_is_ibp_without_its_clean_term():
    batch, method = by_hand.batch(), build("sabr", **{"lambda": 1.0})
    wanted = cross_entropy(worst_by_hand(method.target, batch.images, batch.labels, THREAT.eps), batch.labels)
    torch.testing.assert_close(method.losses(batch, method.perturb(batch))["interval"], wanted)


def test_the_small_box_lies_in_the_ball_and_holds_an_image_that_is_not_at_its_edge():
    batch, method = by_hand.batch(), build("sabr")
    box = method.small_box(batch.images, batch.images + 0.2 * THREAT.eps)
    assert (box.lower >= (batch.images - THREAT.eps).clamp_min(0) - 1e-12).all()
    assert (box.upper <= (batch.images + THREAT.eps).clamp_max(1) + 1e-12).all()
    inner = (batch.images > THREAT.eps) & (batch.images < 1 - THREAT.eps)
    assert ((box.lower <= batch.images + 0.2 * THREAT.eps) | ~inner).all()
    torch.testing.assert_close((box.upper - box.lower)[inner], torch.full_like(box.lower, 1.4 * THREAT.eps)[inner])


@pytest.mark.parametrize(("alpha", "share"), [(0.6, 1.0), (0.01, 0.5)])
def test_mtl_ibp_mixes_the_attacks_loss_with_the_bounds(alpha: float, share: float):
    batch, adversarial = by_hand.batch(), PERTURBED.double()

    def expected(method: Method) -> Tensor:
        worst = worst_by_hand(method.target, batch.images, batch.labels, share * THREAT.eps)
        attacked = cross_entropy(method.target(adversarial), batch.labels)
        return (1 - alpha) * attacked + alpha * cross_entropy(worst, batch.labels)

    method = build("mtl_ibp", alpha=alpha)
    method.radius_share = share
    assert_same_loss(method, expected, checks.total(batch, adversarial))


def test_mtl_ibps_attack_may_have_a_radius_of_its_own():
    batch = by_hand.batch()
    images = build("mtl_ibp", attack_radius=2.0, steps=4).perturb(batch)
    assert THREAT.eps < (images - batch.images).abs().max() <= 2 * THREAT.eps + 1e-12


@pytest.mark.parametrize("name", ["sabr", "mtl_ibp"])
def test_they_train_for_certificates_and_bounds_are_two_passes(name: str):
    kind, method = method_class(name), build(name)
    assert kind.for_certificates and kind.trains_in == ("linf",)
    assert method.program.steps, "read now, because reading runs the network once"
    assert tuple(passes + 2 for passes in checks.passes_of(method, by_hand.batch())) == kind.passes
    checks.assert_crafting_leaves_all_alone(build(name), by_hand.batch())
    params = complete({"data": {"name": "digits"}, "method": {"name": name}})
    assert (params.network.name, params.train.eps_warmup, params.train.augment) == ("plain4", 0.5, "none")


def test_settings_are_the_papers():
    for data, share in (("cifar10", 0.7), ("digits", 0.4)):
        assert complete({"data": {"name": data}, "method": {"name": "sabr"}}).method["lambda"] == share
    assert complete({"data": {"name": "cifar10"}, "method": {"name": "mtl_ibp"}}).method["alpha"] == 0.6
