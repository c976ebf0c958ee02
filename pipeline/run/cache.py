"""Finished parts of an evaluation, each a file of its own, so that a killed one goes on after the last of them.

What a long attack hands over to be kept, so that a killed evaluation goes on after its last finished part.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bundle.digests import canonical_json, sha256_bytes, write_whole
from bundle.formats.archives import ArchiveError, open_arrays

NOTES = "notes"


class Kept:
    """The parts below a folder; without a folder everything is computed anew and nothing is kept.

    The folder's name must say what decides the parts (settings, weights, images, code): what lies there is believed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def parts(self, key: str, compute: Callable[[], dict[str, Part]]) -> dict[str, Part]:
        """The parts that one computation gives, by name, on the CPU; `key` is a path below the folder.

        They come back from the file even where they were computed just now, so that a resumed evaluation and an
        undisturbed one go on with the same values.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{key}.npz"
        found = _read(path)
        if found is None:
            write_whole(path, _npz(compute()))
            found = _read(path)
            assert found is not None  # written just now
        return found

    def holds(self, key: str) -> bool:
        """Whether the parts of this key are kept."""
        return self.folder is not None and (self.folder / f"{key}.npz").exists()

    def keeper(self, key: str) -> Keep:
        """Keeps single parts below `key`, for attacks that work in parts themselves."""

        def keep(name: str, compute: Callable[[], Part], /) -> Part:
            return self.parts(f"{key}/{name}", lambda: {name: compute()})[name]

        return keep

    def notes(self, key: str, compute: Callable[[], Any]) -> Any:
        """A value that JSON can hold, computed once."""
        return self.parts(key, lambda: {NOTES: Part(torch.zeros(0), {"value": compute()})})[NOTES].notes["value"]

    def remove(self) -> None:
        """Takes the parts of a finished evaluation away."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _npz(parts: dict[str, Part]) -> bytes:
    buffer = io.BytesIO()
    notes = json.dumps({name: part.notes for name, part in parts.items()}).encode()
    images = {f"images/{name}": part.images.cpu().numpy() for name, part in parts.items()}
    np.savez(buffer, notes=np.frombuffer(notes, dtype=np.uint8), **images)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    return buffer.getvalue()


def _read(path: Path) -> dict[str, Part] | None:
    """The parts of a file; None where there is none, or it cannot be read and is to be made again."""
    try:
        with open_arrays(path) as archive:
            notes = json.loads(archive.read("notes").tobytes())
            return {name: Part(torch.from_numpy(archive.read(f"images/{name}")), notes[name]) for name in notes}
    except ArchiveError:
        return None


FOLDER = Path("checkpoints")


def checkpoint_folder(identity: dict[str, Any], root: Path = FOLDER) -> Path:
    """The folder of a run, named by the digest of everything that decides its result."""
    return root / sha256_bytes(canonical_json(identity))[:16]


def remove_checkpoints(folder: Path) -> None:
    """Takes a finished run's checkpoints away."""
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Part:
    """A finished part: its adversarial images (N, C, H, W), and notes that JSON can hold."""

    images: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


class Keep(Protocol):
    """Returns the part of this name that was kept before, or computes it, keeps it and returns it."""

    def __call__(self, name: str, compute: Callable[[], Part], /) -> Part: ...


def keep_nothing(name: str, compute: Callable[[], Part], /) -> Part:
    """Computes every part anew."""
    return compute()
