"""The multi-norm MAT-style method against the specification that it is reconstructed from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.methods import Method
from pipeline.methods.mat import PeerImages
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import SHAPE, THREAT, assert_same_loss, cross_entropy, kl_batchmean

SETS = torch.rand(6, 6, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
NORMS = ("linf", "l2", "l1")


def build(**settings: object) -> Method:
    """Every network's BatchNorm statistics are its own, and not the initial ones."""
    method = by_hand.build("mat_multinorm", **{"eps_l2": 0.4, "eps_l1": 1.5, **settings})
    with torch.no_grad():
        for network in method.children():
            for _ in range(3):
                network(torch.rand(16, *SHAPE))
    return method


def size(images: Tensor, clean: Tensor, norm: str) -> Tensor:
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    return torch.linalg.vector_norm((images - clean).flatten(1), ord=order, dim=1)


def loss_against(network: nn.Module, labels: Tensor, images: Tensor) -> Tensor:
    return cross_entropy(copy.deepcopy(network).eval()(images), labels)


@pytest.mark.parametrize("tau", [0.5, 0.2])
def test_the_loss_is_the_specifications(tau: float):
    """⅓ Σ_p [(1−τ) CE(f_G(x̂^p), y) + τ KL(sg p_p(x̂^p)‖p_G(x̂^p))] + Σ_p CE(f_p(x̃^p), y)."""
    batch, images = by_hand.batch(), PeerImages(tuple(SETS))

    def expected(method: Method) -> Tensor:
        loss = torch.zeros(())
        for place, norm in enumerate(NORMS):
            specialist = getattr(method, f"specialist_{norm}")
            lesson = copy.deepcopy(specialist).eval()(SETS[place]).detach()
            answer = method.target(SETS[place])
            taught = (1 - tau) * cross_entropy(answer, batch.labels) + tau * kl_batchmean(lesson, answer)
            loss = loss + taught / 3 + cross_entropy(specialist(SETS[3 + place]), batch.labels)
        return loss

    assert_same_loss(build(tau=tau), expected, checks.total(batch, images))


def test_specialists_learn_nothing_from_the_generalist():
    method, batch = build(), by_hand.batch()
    terms = method.losses(batch, PeerImages(tuple(SETS)))
    weights = [network.linear.weight for network in (method.target, *method.specialists)]
    for name, reached in {
        "cross_entropy": [True, False, False, False],
        "specialists_kl": [True, False, False, False],
        "specialist_linf": [False, True, False, False],
        "specialist_l2": [False, False, True, False],
        "specialist_l1": [False, False, False, True],
    }.items():
        gradients = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
        assert [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients] == reached, name


def test_each_set_lies_in_its_own_ball_and_raises_the_loss_of_the_network_it_is_made_against():
    method, batch = build(), by_hand.batch(12)
    sets = method.perturb(batch).sets
    networks = [method.target] * 3 + method.specialists
    assert len(sets) == 6
    for images, network, norm, eps in zip(sets, networks, NORMS * 2, (THREAT.eps, 0.4, 1.5) * 2, strict=True):
        assert images.min() >= 0 and images.max() <= 1 and not images.requires_grad
        distances = size(images, batch.images, norm)
        assert distances.max() <= eps * (1 + 1e-6) and distances.max() > 0.5 * eps
        reached = loss_against(network, batch.labels, images)
        assert reached > loss_against(network, batch.labels, batch.images) + 1e-3


def test_a_ramp_of_eps_shrinks_every_ball():
    method, batch = build(), by_hand.batch()
    method.radius_share = 0.25
    for images, norm, eps in zip(method.perturb(batch).sets, NORMS * 2, (THREAT.eps, 0.4, 1.5) * 2, strict=True):
        assert size(images, batch.images, norm).max() <= 0.25 * eps * (1 + 1e-6)


def test_validation_asks_for_all_norms():
    assert build().threats == (THREAT, Threat("l2", 0.4), Threat("l1", 1.5))


def test_the_generalist_is_served_and_all_networks_are_trained():
    method = build()
    assert method.served() is method.target
    assert list(method.children()) == [method.target, *method.specialists]
    assert len(method.trained()) == 4 * len(list(method.target.parameters()))


def test_crafting_leaves_modes_statistics_and_gradients_alone():
    checks.assert_crafting_leaves_all_alone(build(), by_hand.batch())


def test_passes_are_those_that_a_step_really_makes():
    method = build()
    assert checks.passes_of(method, by_hand.batch()) == method.passes


def test_radii_come_from_the_data_and_the_threat():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "mat_multinorm"}})
    assert (params.method["eps_l2"], params.method["eps_l1"], params.threat.eps_255) == (0.5, 12.0, 8.0)
    assert params.network.guide is None
