"""What every method keeps to, whatever its formula: what it knows between two steps is in its state."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.methods import Batch, Method, method_names
from tests.pipeline.methods import by_hand, checks

ROWS = torch.tensor([[4, 1, 11, 0, 7, 2], [2, 9, 4, 11, 5, 0], [10, 3, 6, 8, 1, 7]])


def step(method: Method, optimiser: torch.optim.Optimizer, batch: Batch, seed: int) -> Tensor:
    """What the loop does with a batch; the loss."""
    torch.manual_seed(seed)
    perturbed = method.perturb(batch)
    loss = checks.total(batch, perturbed)(method)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    method.after_step(batch, perturbed)
    return loss.detach()


def small(name: str) -> Method:
    return by_hand.build(name, **({"interval": 1, "strategy_lr": 0.1} if name == "las_at" else {}))


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
    one, other = (step(each, torch.optim.SGD(each.trained(), lr=0.1), batches[2], 2) for each in (method, again))
    assert torch.equal(one, other) and torch.isfinite(one)
    for key, value in method.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
