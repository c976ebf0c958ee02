"""Checkpoints that the same command goes on from: whole or absent, and never another run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bundle.digests import write_whole
from bundle.errors import HallmarkError

FILE = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state (tensors, numbers, text, lists and dicts of them) in place of the one before."""

    def content(path: Path) -> None:
        with path.open("wb") as file:  # by a name, torch would not say that the disk is full
            torch.save(state, file)

    write_whole(folder / FILE, content)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last state of this run on the CPU, or None where there is none; raises HallmarkError where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise HallmarkError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); remove {folder} to start again"
        ) from None


def random_state() -> dict[str, Any]:
    """The state of torch's global generators."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Puts torch's global generators back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
