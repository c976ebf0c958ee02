"""From rows to batches: augmentation, mixing, smoothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from pipeline.data.augmentation import augment
from pipeline.data.split import Split
from pipeline.training.batches import Batches, Sampling, smoothed
from tests.pipeline.training.conftest import small_params

ROWS = torch.tensor([3, 1, 59, 20, 7, 41])


def batches(digits: tuple[Split, Split], **train: Any) -> Batches:
    settings = small_params("standard", **train).train
    return Batches(digits[0], settings, Sampling(60, 0, 0.0, 20, 0), classes=10, device=torch.device("cpu"), seed=4)


@pytest.mark.parametrize("kind", ["none", "shift", "crop_flip"])
def test_augmenting_before_the_division_gives_the_same_bits(kind: str, digits: tuple[Split, Split]):
    images = torch.from_numpy(digits[0].images).permute(0, 3, 1, 2)[ROWS].to(torch.float32) / 255
    expected = augment(images, kind, torch.Generator().manual_seed(4))
    batch = batches(digits, augment=kind).batch(ROWS, 1, 3, 5)
    assert batch.images.dtype == torch.float32 and torch.equal(batch.images, expected)
    assert (batch.epoch, batch.epochs, batch.step) == (1, 3, 5) and torch.equal(batch.index, ROWS)


def test_without_features_labels_are_classes_and_nothing_more_is_drawn(digits: tuple[Split, Split]):
    made, other = batches(digits, augment="none"), torch.Generator().manual_seed(4)
    batch = made.batch(ROWS, 0, 1, 0)
    assert batch.labels.dtype == torch.int64 and batch.labels.tolist() == digits[0].labels[ROWS.numpy()].tolist()
    assert torch.equal(made.generator.get_state(), other.get_state())


def test_trivial_augmentation_gets_whole_levels(digits: tuple[Split, Split]):
    batch = batches(digits, augment="trivial").batch(torch.arange(60), 0, 1, 0)
    levels = batch.images * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_smoothing_is_torchs():
    """Cross-entropy with smoothed distributions is torch's label smoothing, and smoothing again composes."""
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 5), torch.randint(5, (8,))
    made = smoothed(labels, 5, 0.2)
    torch.testing.assert_close(made[0], torch.full((5,), 0.04).index_fill(0, labels[0], 0.84))
    torch.testing.assert_close(
        functional.cross_entropy(logits, made), functional.cross_entropy(logits, labels, label_smoothing=0.2)
    )
    torch.testing.assert_close(smoothed(functional.one_hot(labels, 5).float(), 5, 0.2), made)


def test_the_loop_smooths(digits: tuple[Split, Split]):
    labels = batches(digits, label_smoothing=0.1).batch(ROWS, 0, 1, 0).labels
    assert labels.shape == (6, 10) and torch.equal(labels, smoothed(torch.from_numpy(digits[0].labels)[ROWS], 10, 0.1))


def test_cutmix_mixes_its_share_of_the_steps_and_smoothing_comes_on_top(digits: tuple[Split, Split]):
    always, half = batches(digits, cutmix=1.0, label_smoothing=0.5), batches(digits, cutmix=0.5, augment="none")
    labels = torch.stack([always.batch(torch.arange(60), 0, 1, step).labels for step in range(20)])
    torch.testing.assert_close(labels.sum(dim=2), torch.ones(20, 60))
    assert labels.min() >= 0.05 - 1e-6, "every class has its share / K"
    assert ((labels > 0.06).sum(dim=2) == 2).any(), "two classes share what is left"
    mixed = 0
    for step in range(100):
        batch = half.batch(torch.arange(60), 0, 1, step)
        mixed += batch.labels.dim() == 2
        if batch.labels.dim() == 1:
            assert torch.equal(batch.images, half.images / 255), "a step that is not mixed has the images as they are"
    assert 30 <= mixed <= 70
