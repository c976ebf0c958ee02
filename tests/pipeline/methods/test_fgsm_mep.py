"""FGSM-BP, FGSM-EP and FGSM-MEP against the official script's step, written out with tensors of its own."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.methods import Batch, Method
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import SHAPE, THREAT, build, mean_square, smoothed

EPS = THREAT.eps
ROWS = torch.tensor([[4, 1, 11, 0, 7, 2], [2, 9, 4, 11, 5, 0], [7, 1, 2, 3, 4, 8]])


class ByHand:
    """One plain SGD step on the target, with priors kept in a dictionary under the key that the kind of prior has."""

    def __init__(self, method: Method, kind: str) -> None:
        self.network, self.kind = copy.deepcopy(method.target).train(), kind
        self.priors: dict[int, Tensor] = {}
        self.momenta: dict[int, Tensor] = {}
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1)

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        keys = batch.index.tolist() if self.kind != "batch" else list(range(len(batch.index)))
        corners = EPS * (torch.rand(len(keys), *SHAPE) - 0.5).sign() if batch.epoch == 0 else None
        for place, key in enumerate(keys):
            if key not in self.priors:
                assert corners is not None
                self.priors[key], self.momenta[key] = corners[place], torch.zeros(SHAPE)
        delta = torch.stack([self.priors[key] for key in keys]).requires_grad_()
        initial = self.network(batch.images + delta)
        (gradient,) = torch.autograd.grad(smoothed(initial, batch.labels, 0.6), delta, retain_graph=True)
        images = (batch.images + (delta.detach() + EPS * gradient.sign()).clamp(-EPS, EPS)).clamp(0, 1)
        final = self.network(images)
        loss = smoothed(final, batch.labels, 0.6) + 10 * mean_square(final, initial)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        for place, key in enumerate(keys):
            if self.kind == "momentum":
                self.momenta[key] = 0.3 * self.momenta[key] + gradient[place] / gradient.abs().sum()
                moved = (delta[place].detach() + EPS * self.momenta[key].sign()).clamp(-EPS, EPS)
                self.priors[key] = torch.clamp(moved, -batch.images[place], 1 - batch.images[place])
            else:
                self.priors[key] = (images - batch.images)[place]
        return images, loss.detach()


@pytest.mark.parametrize("kind", ["momentum", "epoch", "batch"])
def test_three_steps_are_those_of_the_paper(kind: str):
    """Three batches of one epoch on other images, then the same again on other crops: images, losses and weights."""
    method = build("fgsm_mep", prior=kind)
    reference, optimiser = ByHand(method, kind), torch.optim.SGD(method.trained(), lr=0.1)
    for step in range(6):
        batch = replace(by_hand.batch(epoch=step // 3, seed=step), index=ROWS[step % 3])
        torch.manual_seed(step)
        wanted, loss = reference.step(batch)
        torch.manual_seed(step)
        perturbed = method.perturb(batch)
        value = torch.stack(list(method.losses(batch, perturbed).values())).sum()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        method.after_step(batch, perturbed)
        torch.testing.assert_close(perturbed.final, wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(value.detach(), loss, rtol=1e-10, atol=0)
    for name, weight in method.target.state_dict().items():
        torch.testing.assert_close(weight, reference.network.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_priors_are_kept_in_the_state_and_averaging_is_the_schedules():
    method = build("fgsm_mep")
    assert {"prior", "velocity", "round"} <= set(method.state_dict())
    assert method.averaging_decay(10**6, 0.999) == 0.999 and method.averaging_decay(0, 0.999) == 0.1
    assert checks.passes_of(method, by_hand.batch()) == method.passes == (2, 3)


def test_settings_are_the_official_scripts():
    keys = ("weight", "true_class", "momentum", "reset_epochs")
    for data, values in (("cifar10", [10.0, 0.6, 0.3, 40]), ("cifar100", [10.0, 0.6, 0.3, 10])):
        params = complete({"data": {"name": data}, "method": {"name": "fgsm_mep"}})
        assert [params.method[key] for key in keys] == values and params.method["prior"] == "momentum"
        assert (params.train.epochs, params.train.averaging) == (110, "none")
