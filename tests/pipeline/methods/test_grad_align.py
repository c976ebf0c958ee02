"""GradAlign against its formula: FGSM's images, the cosine, and the gradient through a gradient by finite differences."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pipeline.methods import Method
from pipeline.methods.grad_align import Aligned, mean_cosine
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, clip, cross_entropy

GENERATOR = torch.Generator().manual_seed(9)
PERTURBED, GRADIENT, NOISY = (
    torch.rand(6, *by_hand.SHAPE, generator=GENERATOR, dtype=torch.float64) - half for half in (0.0, 0.5, 0.0)
)
GIVEN = Aligned(PERTURBED, GRADIENT, NOISY)


def gradient_by_hand(network: torch.nn.Module, images: Tensor, labels: Tensor, *, graph: bool) -> Tensor:
    images = images.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(network(images), labels), images, create_graph=graph)[0]


@pytest.mark.parametrize("weight", [0.2, 2.0])
def test_the_loss_is_the_papers(weight: float):
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        loss = cross_entropy(method.target(PERTURBED), batch.labels)
        other = gradient_by_hand(method.target, NOISY, batch.labels, graph=True)
        products = [(GRADIENT * other), GRADIENT**2, other**2]
        both, one, two = (product.flatten(1).sum(dim=1) for product in products)
        return loss + weight * (1 - (both / (one * two).sqrt()).sum() / 6)

    method = build("grad_align", weight=weight)
    assert_same_loss(method, expected, checks.total(batch, GIVEN))


def test_the_second_derivative_is_what_finite_differences_say():
    method, batch = build("grad_align", weight=1.0), by_hand.batch()
    weight = method.target.convolution.weight
    (found,) = torch.autograd.grad(
        checks.total(batch, GIVEN)(copied := copy.deepcopy(method)), copied.target.convolution.weight
    )
    for place in ((0, 0, 1, 1), (2, 0, 0, 2)):
        values = []
        for step in (1e-6, -1e-6):
            copied = copy.deepcopy(method)
            with torch.no_grad():
                copied.target.convolution.weight[place] += step
            values.append(float(checks.total(batch, GIVEN)(copied).detach()))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(found[place]), rel=1e-5, abs=1e-8)
    assert weight.grad is None


def test_the_images_are_fgsms_and_the_gradient_is_the_clean_one():
    method, batch = build("grad_align"), by_hand.batch()
    wanted = gradient_by_hand(copy.deepcopy(method.target).train(), batch.images, batch.labels, graph=False)
    found = method.perturb(batch)
    torch.testing.assert_close(found.gradient, 6 * wanted, rtol=1e-9, atol=1e-14)
    expected = clip(batch.images + THREAT.eps * wanted.sign(), batch.images, THREAT.eps)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-12)
    assert not found.gradient.requires_grad and method.attacked(found) is found.images
    noise = (found.noisy - batch.images).abs()
    assert 0.9 * THREAT.eps < noise.max() <= THREAT.eps and noise.mean() == pytest.approx(THREAT.eps / 2, rel=0.2)


def test_images_without_a_gradient_are_left_out_of_value_and_derivative():
    one, other = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    one[1], other[2] = 0, 0
    kept = [0, 3]
    wanted = torch.nn.functional.cosine_similarity(one[kept].flatten(1), other[kept].flatten(1)).mean()
    other.requires_grad_()
    found = mean_cosine(one, other)
    torch.testing.assert_close(found, wanted)
    (gradient,) = torch.autograd.grad(found, other)
    assert torch.isfinite(gradient).all() and (gradient[1:3] == 0).all() and gradient[0].abs().max() > 0
    assert mean_cosine(torch.zeros(3, 2), torch.ones(3, 2)) == 0


def test_a_step_costs_three_forward_and_four_backward_passes():
    method = build("grad_align")
    assert checks.passes_of(method, by_hand.batch()) == method.passes == (3, 4)


def test_settings_are_the_official_scripts():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "grad_align"}})
    assert params.method == {"name": "grad_align", "weight": 0.2}
    assert (params.train.epochs, params.train.lr, params.train.lr_shape) == (30, 0.3, "one_cycle")
