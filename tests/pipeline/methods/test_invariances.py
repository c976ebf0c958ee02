"""What losses may not depend on: a constant on all logits, the classes' and the images' order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bundle.table.outcomes import margins
from pipeline.attacks.divergence import kl_divergence, smoothed_cross_entropy
from pipeline.attacks.pgd import margin

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Of logits (N, K), other logits (N, K) and labels (N,); float64, so that only the formula is tried.
LOSSES: dict[str, Loss] = {
    "kl": lambda first, second, _: kl_divergence(first, second),
    "kl by element": lambda first, second, _: kl_divergence(first, second, "element"),
    "smoothed cross-entropy": lambda first, _, labels: smoothed_cross_entropy(first, labels, 0.9),
    "margin": lambda first, _, labels: margin(first, labels).mean(),
}
SEEDS, SCALES = st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 1.0, 30.0])


def drawn(seed: int, scale: float) -> tuple[Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    images, classes = (int(torch.randint(2, 7, (), generator=generator)) for _ in range(2))
    logits = scale * torch.randn(2, images, classes, generator=generator, dtype=torch.float64)
    return *logits, torch.randint(0, classes, (images,), generator=generator), generator


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=60, deadline=None)
@given(SEEDS, SCALES, st.floats(-1e3, 1e3))
def test_a_constant_on_all_of_an_images_logits_changes_nothing(
    name: str, seed: int, scale: float, constant: float
) -> None:
    first, second, labels, _ = drawn(seed, scale)
    found = LOSSES[name](first + constant, second - constant, labels)
    torch.testing.assert_close(found, LOSSES[name](first, second, labels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=60, deadline=None)
@given(SEEDS, SCALES)
def test_neither_the_classes_order_nor_the_images_matters(name: str, seed: int, scale: float) -> None:
    first, second, labels, generator = drawn(seed, scale)
    images, classes = (torch.randperm(size, generator=generator) for size in first.shape)
    places = torch.argsort(classes)
    found = LOSSES[name](first[images][:, classes], second[images][:, classes], places[labels[images]])
    torch.testing.assert_close(found, LOSSES[name](first, second, labels), rtol=1e-9, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(SEEDS, SCALES)
def test_a_divergence_is_never_negative_and_zero_of_itself(seed: int, scale: float) -> None:
    first, second, _, _ = drawn(seed, scale)
    assert (kl_divergence(first, second, "none") >= -1e-12).all()
    assert kl_divergence(first, first, "none").abs().max() < 1e-12


@settings(max_examples=100, deadline=None)
@given(SEEDS, SCALES)
def test_the_attacks_margin_is_the_tables_and_says_who_is_right(seed: int, scale: float) -> None:
    logits, _, labels, _ = drawn(seed, scale)
    logits = logits.float()
    found = margin(logits, labels)
    assert found.tolist() == margins(logits.numpy(), labels.numpy()).tolist()
    assert ((found > 0) <= (logits.argmax(1) == labels)).all()
