"""The networks that a method trains beside the served one, from training to a file and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bundle.errors import HallmarkError
from pipeline.networks.serialisation import FILE, load_companions
from pipeline.training.loop import Training
from pipeline.training.record import save_training


@pytest.mark.parametrize(
    "method, names",
    [
        ("pgd_at", []),
        ("d2r_cag", ["guide"]),
        ("mat", ["peer_1"]),
        ("mat_multinorm", ["specialist_linf", "specialist_l2", "specialist_l1"]),
    ],
)
def test_a_method_leaves_its_other_networks(
    make_training: Callable[..., Training], tmp_path: Path, method: str, names: list[str]
):
    """Those of the selected epoch, which is not the last one here: a guide of another epoch is another attacker."""
    training = make_training(method, epochs=1)
    training.run(tmp_path / "checkpoints")
    expected = {name: network.state_dict() for name, network in training.method.companions().items()}
    expected = {name: {key: value.clone() for key, value in state.items()} for name, state in expected.items()}
    with torch.no_grad():
        for parameter in training.method.parameters():
            parameter.add_(1.0)
    save_training(tmp_path, training, {}, {})
    found = load_companions(tmp_path)
    assert list(found) == names and not any(network.training for network in found.values())
    for name, network in found.items():
        assert all(torch.equal(value, expected[name][key]) for key, value in network.state_dict().items())
    if "guide" in found:
        images = torch.rand(2, 1, 8, 8)
        assert not torch.equal(found["guide"](images), training.method.served().eval()(images))


def test_no_file_means_none_and_a_damaged_one_is_refused(tmp_path: Path):
    assert load_companions(tmp_path) == {}
    (tmp_path / FILE).write_bytes(b"\x10\0\0\0\0\0\0\0not a safetensors")
    with pytest.raises(HallmarkError, match=r"companions.safetensors: not readable .*the stage train makes it"):
        load_companions(tmp_path)
