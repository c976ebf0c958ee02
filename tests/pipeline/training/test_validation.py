"""Accuracy on the validation split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bundle.table.threats import Threat
from pipeline.training.loop import Training
from pipeline.training.validation import validate
from tests.pipeline.training.runs import recorded_dtypes

Make = Callable[..., Training]
THREAT = Threat("linf", 16)


def test_images_right_on_clean_and_under_attack_are_counted(make_training: Make, tmp_path: Path):
    """Against a count by hand, in float32 although the caller's autocast is on, and with the mode put back."""
    training = make_training("standard", epochs=4, batch_size=6, lr=0.03, augment="none")
    training.run(tmp_path)
    network = training.method.target.train()
    images, labels = training.validation
    seen = recorded_dtypes(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clean, robust, fgsm = validate(network, images, labels, threats=(THREAT,))
    assert {dtype for _, dtype in seen} == {torch.float32} and not any(trains for trains, _ in seen)
    assert network.training
    network.eval()
    assert clean == float((network(images / 255).argmax(1) == labels).double().mean())
    assert 0 <= robust <= clean and 0 <= fgsm <= clean
    # So small that no sum of float32 notices it.
    assert validate(network, images, labels, threats=(Threat("linf", 1e-30),)) == (clean, clean, clean)


class Paired(nn.Module):
    """Two classes, told apart by the mean of eight pixels where the first one is bright, by a single one elsewhere.

    An l∞ ball moves both scores by eps, an l2 ball the mean by eps/√8 alone, an l1 ball by eps/8.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean, single = images[:, 0, 1:3].mean(dim=(1, 2)), images[:, 0, 3, 0]
        score = torch.where(images[:, 0, 0, 0] > 0.5, mean, single) - 0.5
        return torch.stack([-score, score], dim=1)


def test_several_threats_are_an_and_over_images_and_change_nothing_in_each_other():
    """Batches of one image, so that a share says of every image whether it is right under the threat.

    Each score lies at least a sixth inside or outside of each ball's reach.
    """
    threats = (Threat("linf", 0.06 * 255), Threat("l2", 0.1), Threat("l1", 0.2))
    bright, levels = [True, True, True, False, False, False], torch.tensor([139, 135, 130, 166, 148, 230])
    images = levels[:, None, None, None].expand(6, 1, 4, 4).clone().to(torch.uint8)
    images[:, 0, 0, 0] = 255 * torch.tensor(bright)
    labels = torch.ones(6, dtype=torch.long)

    def right(*chosen: Threat) -> list[bool]:
        rows = [slice(row, row + 1) for row in range(6)]
        return [validate(Paired(), images[row], labels[row], threats=chosen).robust == 1 for row in rows]

    alone = [right(threat) for threat in threats]
    assert alone == [
        [False, False, False, True, True, True],
        [True, False, False, True, False, True],
        [True, True, False, False, False, True],
    ]
    assert right(*threats) == [all(verdicts) for verdicts in zip(*alone, strict=True)]
    assert right(threats[0], threats[0]) == alone[0]


class Leaning(nn.Module):
    """Two classes, told apart by the mean pixel: a step of FGSM moves it by eps, whatever the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


def test_the_single_step_breaks_exactly_the_images_within_its_reach():
    levels = torch.tensor([100, 120, 130, 160], dtype=torch.uint8)
    images, labels = levels[:, None, None, None].expand(4, 1, 4, 4).clone(), torch.tensor([0, 0, 1, 1])
    for batch_size in (1, 3, 4):
        assert validate(Leaning(), images, labels, threats=(THREAT,), batch_size=batch_size) == (1.0, 0.5, 0.5)
    assert validate(Leaning(), images, 1 - labels, threats=(THREAT,)) == (0.0, 0.0, 0.0)
    two = validate(Leaning(), images, labels, threats=(Threat("linf", 1), THREAT))
    assert two == (1.0, 0.5, 1.0), "the single step is the first threat's, PGD every threat's"
