"""Checkpoints are whole or absent, and never another run's."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from bundle.errors import HallmarkError
from pipeline.run.cache import Cache, cache_folder
from pipeline.training.checkpoints import load_checkpoint, random_state, restore_random_state, save_checkpoint


def test_a_state_comes_back_as_it_was(tmp_path: Path):
    state = {"epoch": 3, "weights": {"a": torch.arange(3.0)}, "history": [{"loss": 0.1, "selected": 1}], "name": "x"}
    save_checkpoint(tmp_path / "run", state)
    found = load_checkpoint(tmp_path / "run")
    assert found is not None and torch.equal(found.pop("weights")["a"], state.pop("weights")["a"]) and found == state


def test_none_where_there_is_none(tmp_path: Path):
    assert load_checkpoint(tmp_path / "run") is None


def test_a_write_that_fails_leaves_the_checkpoint_before_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_checkpoint(tmp_path, {"epoch": 1})

    def half(state: object, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path, {"epoch": 2})
    assert load_checkpoint(tmp_path) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_that_runs_code_is_loaded(tmp_path: Path):
    """weights_only: a checkpoint is data; a pickled object of another kind is refused in one sentence."""
    torch.save({"epoch": Path("x")}, tmp_path / "checkpoint.pt")
    with pytest.raises(HallmarkError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path)


def test_a_folder_is_named_by_everything_that_decides_the_result(tmp_path: Path):
    identity = {"settings": {"seed": 0, "train": {"lr": 0.1}}, "lock": "a"}
    folder = cache_folder(identity, tmp_path)
    assert folder == cache_folder({"lock": "a", "settings": {"train": {"lr": 0.1}, "seed": 0}}, tmp_path)
    others = [
        {"settings": {"seed": 1, "train": {"lr": 0.1}}, "lock": "a"},
        {"settings": {"seed": 0, "train": {"lr": 0.2}}, "lock": "a"},
        {"settings": {"seed": 0, "train": {"lr": 0.1}}, "lock": "b"},
    ]
    assert len({folder, *(cache_folder(other, tmp_path) for other in others)}) == 4


def test_removing_takes_one_run_away(tmp_path: Path):
    for name in ("one", "other"):
        save_checkpoint(tmp_path / name, {"epoch": 1})
    Cache(tmp_path / "one").remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    Cache(tmp_path / "one").remove()


def test_the_random_state_comes_back():
    torch.manual_seed(1)
    state = random_state()
    first = torch.rand(5)
    restore_random_state(state)
    assert torch.equal(torch.rand(5), first)
