"""KL in the mathematical order, its reductions and its precision; label smoothing."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from pipeline.attacks.divergence import kl_divergence, log_softmax, smoothed_cross_entropy
from pipeline.methods import method_names
from tests.pipeline.methods import by_hand
from tests.pipeline.methods.by_hand import kl_terms, smoothed

P, Q = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


def test_two_coins():
    """KL(3/4‖1/2) in closed form: 3/4 ln 3/2 + 1/4 ln 1/2."""
    p, q = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert kl_divergence(p, q).item() == pytest.approx(expected, rel=1e-12)
    assert kl_divergence(q, p).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-12)


@pytest.mark.parametrize(("reduction", "divisor"), [("batchmean", 2), ("element", 6), ("sum", 1)])
def test_reductions(reduction: str, divisor: int):
    p, q = P.double(), Q.double()
    torch.testing.assert_close(kl_divergence(p, q, reduction), kl_terms(p, q).sum() / divisor, rtol=1e-12, atol=0)


def test_none_gives_one_value_an_image():
    p, q = P.double(), Q.double()
    torch.testing.assert_close(kl_divergence(p, q, "none"), kl_terms(p, q).sum(dim=1), rtol=1e-12, atol=0)


def test_default_is_batchmean():
    assert kl_divergence(P, Q) == kl_divergence(P, Q, "batchmean")


def test_not_symmetric_and_zero_for_equal_distributions():
    assert kl_divergence(P, Q) != kl_divergence(Q, P)
    assert kl_divergence(P, P + 7.0).abs() < 1e-12


def test_low_precision_logits_are_computed_in_float32():
    """The same values as the rounded logits have in float32, which bf16 arithmetic would not reach."""
    p, q = P.bfloat16(), (Q + 0.01).bfloat16()
    found = kl_divergence(p, q)
    assert found.dtype == torch.float32
    assert torch.equal(found, kl_divergence(p.float(), q.float()))
    assert log_softmax(p).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kl_divergence(p, q).dtype == torch.float32


def test_float64_stays_float64():
    assert kl_divergence(P.double(), Q.double()).dtype == torch.float64


def test_large_logits_stay_finite_with_finite_gradients():
    p = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = kl_divergence(p, torch.zeros(1, 3))
    value.backward()
    assert value.item() == pytest.approx(math.log(3), rel=1e-6)
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("weight", [0.5, 0.8, 1.0])
def test_label_smoothing_gives_the_label_its_weight_and_shares_the_rest(weight: float):
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    found = smoothed_cross_entropy(logits, labels, weight)
    torch.testing.assert_close(found, smoothed(logits, labels, weight), rtol=1e-12, atol=0)


def test_label_smoothing_weights_are_read_off_the_gradient():
    """At uniform probabilities the gradient of -Σ w log p is 1/K − w: weight w on the label, (1 − w)/(K − 1) elsewhere."""
    logits = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    smoothed_cross_entropy(logits, torch.tensor([2]), 0.6).backward()
    expected = torch.tensor([[0.1, 0.1, -0.4, 0.1, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-15)


def test_smoothed_cross_entropy_takes_distributions_as_the_mean_over_their_classes():
    """Smoothing is linear in the label: a mixed label costs the mixture of what its classes cost."""
    logits, first, second = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([3, 1, 0, 2, 1])
    one_hot = torch.eye(4)
    mixed = 0.7 * one_hot[first] + 0.3 * one_hot[second]
    expected = 0.7 * smoothed_cross_entropy(logits, first, 0.5) + 0.3 * smoothed_cross_entropy(logits, second, 0.5)
    torch.testing.assert_close(smoothed_cross_entropy(logits, mixed, 0.5), expected)
    torch.testing.assert_close(
        smoothed_cross_entropy(logits, one_hot[first], 0.5), smoothed_cross_entropy(logits, first, 0.5)
    )


@pytest.mark.parametrize("name", method_names())
def test_every_method_takes_one_hot_distributions_as_it_takes_classes(name: str):
    """What CutMix and label smoothing hand over: with certain labels images and losses are the same."""
    method, batch = by_hand.build(name), by_hand.batch()
    certain = replace(batch, labels=torch.eye(by_hand.CLASSES)[batch.labels])
    found = []
    for given in (batch, certain):
        torch.manual_seed(3)
        copied = copy.deepcopy(method)
        terms = copied.losses(given, copied.perturb(given))
        found.append({key: float(value.detach()) for key, value in terms.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-9)
