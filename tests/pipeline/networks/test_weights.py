"""Weights are found by the network's own names wherever a file has them; what a file is otherwise is said."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from pipeline.external.weights import load_weights
from pipeline.networks import NetworkError

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def state(seed: int = 1) -> State:
    return dict(network(seed).state_dict())


def behind(prefix: str, weights: State) -> State:
    return {prefix + name: value for name, value in weights.items()}


def loaded(file: str | Path, module: nn.Module | None = None) -> tuple[State, list[str]]:
    module = module or network()
    remarks = load_weights(module, file)
    return dict(module.state_dict()), remarks


def same(found: State, expected: State) -> bool:
    return all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    "content",
    [
        lambda w: w,
        lambda w: behind("_orig_mod.module.", w),
        lambda w: {"state_dict": behind("backbone.", w) | {"projector.weight": torch.zeros(2)}},
        lambda w: {"ema_state_dict": w, "epoch": np.int64(3), "best": np.float32(0.5)},
        lambda w: {"params": {"weights": behind("net.", w)}, "args": argparse.Namespace(lr=0.1, path=Path("a/b"))},
        lambda w: {"optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "model": w, "history": np.arange(4.0)},
        lambda w: [{"epoch": 3}, {"model": behind("module.", w)}],
        lambda w: {"model": w, "ema": {name: value.clone() for name, value in w.items()}},
        lambda w: {name: value for name, value in w.items() if "num_batches" not in name} | {"epoch": 7},
        lambda w: {name: nn.Parameter(value) if value.is_floating_point() else value for name, value in w.items()},
        lambda w: {name: value.numpy() for name, value in w.items()},
    ],
)
def test_weights_are_found_in_any_section_behind_any_prefix(content: Callable[[State], Any], tmp_path: Path):
    torch.save(content(state()), tmp_path / "w.pt")
    assert same(loaded(tmp_path / "w.pt")[0], state())


def test_what_was_passed_over_is_said(tmp_path: Path):
    torch.save(
        {"state_dict": behind("module.", state()) | {"loss.margin": torch.zeros(1)}, "epoch": 3}, tmp_path / "w.pt"
    )
    assert loaded(tmp_path / "w.pt")[1] == [
        "the weights are those under 'state_dict' in w.pt",
        "'module.' was taken off the names in w.pt",
        "not read: epoch, loss.margin",
    ]
    torch.save(state(), tmp_path / "plain.pt")
    assert loaded(tmp_path / "plain.pt")[1] == []


def test_safetensors_have_prefixes_too_and_the_network_may_have_one(tmp_path: Path):
    save_file(behind("model.", state()), tmp_path / "w.safetensors")
    assert same(loaded(tmp_path / "w.safetensors")[0], state())
    found, remarks = loaded(tmp_path / "w.safetensors", nn.Sequential(nn.Identity(), network()))
    assert same(found, behind("1.", state())) and remarks[-1] == "'1.' was put before the names in w.safetensors"


def test_of_two_candidates_one_must_be_named(tmp_path: Path):
    file = tmp_path / "w.pt"
    torch.save({"model": state(1), "ema": behind("module.", state(2)), "epoch": 3}, file)
    with pytest.raises(
        NetworkError, match=r"more than once, and differ: \S+w\.pt#model, \S+w\.pt#ema/module; name one"
    ):
        loaded(file)
    assert same(loaded(f"{file}#model")[0], state(1))
    for name in ("ema", "ema/module"):
        assert same(loaded(f"{file}#{name}")[0], state(2))
    with pytest.raises(NetworkError, match="no section 'emma' with tensors; it has model, ema/module"):
        loaded(f"{file}#emma")
    torch.save(behind("student.", state(1)) | behind("teacher.", state(2)), file)
    with pytest.raises(NetworkError, match=r"w\.pt#student, \S+w\.pt#teacher"):
        loaded(file)
    assert same(loaded(f"{file}#teacher")[0], state(2))
    torch.save(state(1) | behind("ema.", state(2)), file)
    with pytest.raises(NetworkError, match=r"w\.pt#, \S+w\.pt#ema"):
        loaded(file)


def test_a_file_whose_name_has_the_mark_is_that_file(tmp_path: Path):
    torch.save(state(), tmp_path / "run#3.pt")
    assert same(loaded(tmp_path / "run#3.pt")[0], state())


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"a": {"b": state()}}, tmp_path / "w.pt")
    for name in ("~/w.pt", "~/w.pt#a/b"):
        assert same(loaded(name)[0], state())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([torch.zeros(1)], "tensors by name; holds a list"),
        ({}, "tensors by name; holds nothing"),
        ({"state_dict": {"epoch": 3}}, "tensors by name; state_dict is a dict"),
        ({"model": {"0.bias": torch.zeros(2)}}, r"w\.pt#model: .*lacks 0\.weight, 1\.weight, 1\.bias and 4 more"),
        (state() | {"head.bias": torch.zeros(1)}, r"has head\.bias besides"),
        (state() | {"3.bias": torch.zeros(4)}, r"3\.bias is \(4,\), the network's \(3,\)"),
    ],
)
def test_a_file_without_the_networks_weights_is_refused(content: Any, sentence: str, tmp_path: Path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(NetworkError, match=sentence) as caught:
        loaded(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)


def test_a_file_is_called_what_it_is(tmp_path: Path):
    file = tmp_path / "w.pt"
    file.write_bytes(save(state()))
    found, remarks = loaded(file)
    assert same(found, state()) and remarks == ["w.pt is a safetensors file"]
    torch.save(state(), tmp_path / "w.safetensors")
    found, remarks = loaded(tmp_path / "w.safetensors")
    assert same(found, state()) and remarks == ["w.safetensors is a file of torch.save"]
    torch.jit.save(torch.jit.script(network()), file)
    with pytest.raises(NetworkError, match="is a TorchScript archive"):
        loaded(file)
    for content, sentence in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s9--0.pt\n", "git-annex pointer"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ):
        for name in ("w.pt", "w.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(NetworkError, match=sentence):
                loaded(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_and_missing_files_are_refused(name: str, tmp_path: Path):
    with pytest.raises(NetworkError, match="there is no such file"):
        loaded(tmp_path / name)
    with pytest.raises(NetworkError, match="is a folder"):
        loaded(tmp_path)
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NetworkError, match="is a link to a file that is not there"):
        loaded(tmp_path / "gone.pt")
    for content in (b"PK\x03\x04 not an archive", b"", b"\x00" * 9):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NetworkError, match=r"is not a (file that torch\.save wrote|safetensors file)"):
            loaded(tmp_path / name)


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_file_is_executed(tmp_path: Path):
    trap = Trap(tmp_path / "executed")
    torch.save({"0.weight": trap}, tmp_path / "trap.pt")
    torch.save(state() | {"args": argparse.Namespace(hook=trap)}, tmp_path / "beside.pt")
    torch.save({"best": np.array([trap], dtype=object), "model": state()}, tmp_path / "array.pt")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(trap))
    torch.save(network(), tmp_path / "whole.pt")
    named = {
        "trap.pt": "mkdir",
        "beside.pt": "mkdir",
        "array.pt": "ObjectDType",
        "bare.pth": "",
        "whole.pt": "Sequential",
    }
    for name, what in named.items():
        with pytest.raises(NetworkError, match=rf"{name}: holds more than tensors.*{what}.*, and reading") as caught:
            loaded(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
