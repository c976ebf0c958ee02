"""Stopping runs and comparing them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.training.loop import Training


def assert_equal_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def assert_equal_runs(one: Training, other: Training) -> None:
    """Everything that a run leaves but the time it took: weights, averages, selection, history, optimiser, alarm."""
    assert one.history == other.history and one.alarm == other.alarm and one.epoch == other.epoch
    assert_equal_states(one.method.state_dict(), other.method.state_dict())
    assert_equal_states(one.network().state_dict(), other.network().state_dict())
    assert (one.selected.epoch, one.selected.robust) == (other.selected.epoch, other.selected.robust)
    assert_equal_states(one.selected.weights, other.selected.weights)
    for mine, its in zip(
        one.optimiser.state_dict()["state"].values(), other.optimiser.state_dict()["state"].values(), strict=True
    ):
        assert torch.equal(mine["momentum_buffer"], its["momentum_buffer"])


def stop_at(training: Training, step: int, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs until Ctrl-C in a step (from 0), and gives back what was said."""
    original = training.step

    def step_or_stop(rows: Tensor, number: int, rate: float) -> dict[str, Tensor]:
        if number == step:
            raise KeyboardInterrupt
        return original(rows, number, rate)

    monkeypatch.setattr(training, "step", step_or_stop)
    with pytest.raises(HallmarkError) as caught:
        training.run(checkpoints)
    return str(caught.value)


def spoiled(training: Training) -> Training:
    """With other weights and random numbers: what goes on from a checkpoint takes everything from there."""
    with torch.no_grad():
        for parameter in training.method.parameters():
            parameter.add_(1.0)
    torch.manual_seed(999)
    return training


def recorded_dtypes(network: nn.Module) -> list[tuple[bool, torch.dtype]]:
    """Of every forward pass from now on: whether it was in train mode, and the dtype of the logits."""
    seen: list[tuple[bool, torch.dtype]] = []
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    head.register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.dtype)))
    return seen
