"""Averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.training.optimisation import AveragedNetwork


def network(value: float) -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.fill_(value)
    return made


@pytest.mark.parametrize("decay", [0.75, torch.tensor(0.75)])
def test_parameters_and_float_buffers_follow_and_integers_are_copied(decay: object):
    average = AveragedNetwork(network(1))
    average.update(network(5), decay)
    state = average.network.state_dict()
    assert state["1.num_batches_tracked"].item() == 5 and state["1.num_batches_tracked"].dtype == torch.int64
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        torch.testing.assert_close(state[name], torch.full_like(state[name], 2.0), msg=name)


def test_two_updates_compose():
    average = AveragedNetwork(network(0))
    average.update(network(1), 0.9)
    average.update(network(1), 0.9)
    torch.testing.assert_close(average.network.state_dict()["0.weight"], torch.full((2, 2), 0.19))


def test_a_decay_of_zero_copies_and_of_one_keeps():
    average = AveragedNetwork(network(1))
    average.update(network(5), 1.0)
    assert (average.network.state_dict()["0.weight"] == 1).all()
    average.update(network(5), 0.0)
    assert (average.network.state_dict()["0.weight"] == 5).all()


def test_no_storage_is_shared_before_and_after_an_update():
    source = network(1)
    average = AveragedNetwork(source)
    average.update(source, 0.0)
    mine = {value.data_ptr() for value in average.network.state_dict().values()}
    assert not mine & {value.data_ptr() for value in source.state_dict().values()}
    nn.init.constant_(source[0].weight, 9.0)
    source[1].running_mean.fill_(9.0)
    assert all((value != 9).all() for value in average.network.state_dict().values())


def test_the_average_is_in_eval_mode_and_takes_no_gradient():
    average = AveragedNetwork(network(1).train())
    assert not any(module.training for module in average.network.modules())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
