"""What every method keeps to, whatever its formula: fixed shapes, no look at a value, and nothing outside its state."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.methods import Batch, Method, method_names
from tests.pipeline.methods import by_hand, checks

ROWS = torch.tensor([[4, 1, 11, 0, 7, 2], [2, 9, 4, 11, 5, 0], [10, 3, 6, 8, 1, 7]])


def step(method: Method, optimiser: torch.optim.Optimizer, batch: Batch, seed: int) -> tuple[Tensor, Any]:
    """What the loop does with a batch; the loss, and what the method made of the images."""
    torch.manual_seed(seed)
    perturbed = method.perturb(batch)
    loss = checks.total(batch, perturbed)(method)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    method.after_step(batch, perturbed)
    return loss.detach(), perturbed


def small(name: str) -> Method:
    return by_hand.build(name, **({"interval": 1, "strategy_lr": 0.1} if name == "las_at" else {}))


@pytest.mark.parametrize("name", method_names())
def test_a_step_looks_at_no_value(name: str):
    """On torch's meta device tensors have shapes and no values: what asks for one, or for a shape that depends on one,
    fails there. So a step makes no device wait, and can be captured once and repeated."""
    method = small(name)
    if hasattr(method, "program"):
        assert method.program.steps  # read once, before training
    method = method.to("meta")
    batch = by_hand.batch()
    batch = replace(batch, images=batch.images.to("meta"), labels=batch.labels.to("meta"), index=batch.index.to("meta"))
    loss, perturbed = step(method, torch.optim.SGD(method.trained(), lr=0.1), batch, 0)
    assert loss.shape == () and loss.device.type == "meta"
    assert method.attacked(perturbed).shape == batch.images.shape


@pytest.mark.parametrize("name", method_names())
def test_what_a_method_keeps_between_steps_is_in_its_state(name: str):
    """From a checkpoint's state a fresh method takes the very same next step."""
    method = small(name)
    optimiser = torch.optim.SGD(method.trained(), lr=0.1)
    batches = [
        replace(by_hand.batch(epoch=number // 2, step=number, seed=number), index=rows)
        for number, rows in enumerate(ROWS)
    ]
    for seed, batch in enumerate(batches[:2]):
        step(method, optimiser, batch, seed)
    again = small(name)
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    (one, _), (other, _) = (
        step(each, torch.optim.SGD(each.trained(), lr=0.1), batches[2], 2) for each in (method, again)
    )
    assert torch.equal(one, other) and torch.isfinite(one)
    for key, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
