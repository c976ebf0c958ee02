"""Every method's step on torch's meta device: what reads a value, or leaves a tensor on the CPU, fails there.

On a GPU the first stalls the device, and the second breaks the step; neither can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.methods import Batch, Method, Task, method_class, method_names
from pipeline.networks import build_network
from pipeline.networks.folding import fold_while_crafting
from pipeline.training.optimisation import ExponentialAverage

IMAGES = 64


def build_on_meta(name: str, **settings: Any) -> Method:
    kind = method_class(name)
    task = Task(Threat("linf", 8), 10, IMAGES, (3, 16, 16))

    def build(role: str) -> nn.Module:
        return build_network(
            kind.sections("cifar10").get("network", {}).get("name", "resnet8"), classes=10, channels=3, width=4
        )

    steps = {"steps": 2} if "steps" in kind.Settings.model_fields else {}  # every step is like the others
    chosen = kind.Settings.model_validate({**kind.defaults("cifar10"), **steps, **settings})
    return kind(chosen, task, build).to("meta").train()


def batch_on_meta(epoch: int, mixed: bool) -> Batch:
    labels = torch.zeros(8, 10, device="meta") if mixed else torch.zeros(8, dtype=torch.int64, device="meta")
    return Batch(torch.rand(8, 3, 16, 16, device="meta"), labels, torch.arange(8, device="meta"), epoch, 5, epoch * 8)


def step(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Images, losses, gradients and what the method keeps: all of a step but the optimiser."""
    perturbed = method.perturb(batch)
    terms = method.losses(batch, perturbed)
    torch.stack(list(terms.values())).sum().backward()
    assert method.attacked(perturbed).device.type == "meta"
    method.after_step(batch, perturbed)
    return terms


@pytest.mark.parametrize("name", method_names())
def test_a_step_asks_the_device_for_nothing(name: str) -> None:
    """Nor does it put another tensor in a buffer's place: a graph writes to those that it was captured with."""
    method = build_on_meta(name)
    fold_while_crafting(method.children())
    average = ExponentialAverage(method.served(), 0.9)
    buffers = {key: id(value) for key, value in method.named_buffers()}
    for epoch, mixed in ((0, False), (1, True)):
        terms = step(method, batch_on_meta(epoch, mixed))
        average.after_step(method, epoch)
        assert all(value.device.type == "meta" and value.shape == () for value in terms.values())
    assert all(parameter.grad is not None for parameter in method.served().parameters())
    assert {key: id(value) for key, value in method.named_buffers()} == buffers


@pytest.mark.parametrize(
    ("name", "settings"),
    [("d2r", {"one_at_a_time": True}), ("regmix", {"agr_form": "mixture", "gamma": 0.5}), ("lbgat", {"beta": 6.0})],
)
def test_nor_with_other_settings(name: str, settings: dict[str, Any]) -> None:
    step(build_on_meta(name, **settings), batch_on_meta(0, mixed=False))
