"""Accuracy on the validation split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bundle.threats import Threat
from pipeline.training.loop import Training
from pipeline.training.validation import validate
from tests.pipeline.training.runs import recorded_dtypes

Make = Callable[..., Training]
THREATS = (Threat("linf", 16), Threat("l2", 0.5), Threat("l1", 4.0))


@pytest.fixture
def trained(make_training: Make, tmp_path: Path) -> Training:
    training = make_training("standard", epochs=4, batch_size=6, lr=0.03, augment="none")
    training.run(tmp_path)
    return training


def test_images_right_on_clean_and_under_attack_are_counted(trained: Training):
    """Against a count by hand, in float32 although the caller's autocast is on, and with the mode put back."""
    network = trained.method.target.train()
    images, labels = trained.validation
    seen = recorded_dtypes(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clean, robust, fgsm = validate(network, images, labels, threats=THREATS[:1], batch_size=16)
    assert {dtype for _, dtype in seen} == {torch.float32} and not any(trains for trains, _ in seen)
    assert network.training
    network.eval()
    assert clean == float((network(images / 255).argmax(1) == labels).double().mean())
    assert 0 <= robust <= fgsm <= clean
    nothing = validate(network, images, labels, threats=(Threat("linf", 1e-6),))
    assert nothing == (clean, clean, clean)
    again = validate(network, images, labels, threats=THREATS[:1], batch_size=40)
    assert again == pytest.approx((clean, robust, fgsm))


def test_several_threats_are_an_and_over_images_and_change_nothing_in_each_other(trained: Training):
    """Batches of one image, so that a share says of every image whether it is right under the threat."""
    network, (images, labels) = trained.method.target, trained.validation

    def right(*threats: Threat) -> list[bool]:
        rows = [slice(row, row + 1) for row in range(20)]
        return [validate(network, images[row], labels[row], threats=threats).robust == 1 for row in rows]

    alone = [right(threat) for threat in THREATS]
    assert right(*THREATS) == [all(verdicts) for verdicts in zip(*alone, strict=True)]
    assert any(alone[0]) and alone[0] != alone[2], "the threats disagree on some image"
    assert right(THREATS[0], THREATS[0]) == alone[0]


class Leaning(nn.Module):
    """Two classes, told apart by the mean pixel: a step of FGSM moves it by eps, whatever the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def test_the_single_step_breaks_exactly_the_images_within_its_reach():
    levels = torch.tensor([100, 120, 130, 160], dtype=torch.uint8)
    images, labels = levels[:, None, None, None].expand(4, 1, 4, 4).clone(), torch.tensor([0, 0, 1, 1])
    accuracy = validate(Leaning(), images, labels, threats=(Threat("linf", 16),))
    assert accuracy == (1.0, 0.5, 0.5)
    assert validate(Leaning(), images, 1 - labels, threats=(Threat("linf", 16),)) == (0.0, 0.0, 0.0)
    two = validate(Leaning(), images, labels, threats=(Threat("linf", 1), Threat("linf", 16)))
    assert two == (1.0, 0.5, 1.0), "the single step is the first threat's, PGD every threat's"
