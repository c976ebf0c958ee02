"""The one cache of work that goes on after it was stopped, and the locks around it; whole stages are DVC's.

A folder stands for one piece of work and is named by the digest of everything that decides its result: settings, weights,
images, code, environment. What lies in it is believed; a file that cannot be read is made again. Files appear whole, and the
folder goes when the work is done. Trainings keep their checkpoint there, evaluations and certifications their parts. A lock
ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import io
import json
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bundle.digests import canonical_json, sha256_bytes, write_whole
from bundle.formats.archives import ArchiveError, open_arrays

FOLDER = Path("checkpoints")


def cache_folder(identity: Any, root: Path = FOLDER) -> Path:
    """The folder of a piece of work, named by the digest of what JSON can hold of everything that decides its result."""
    return root / sha256_bytes(canonical_json(identity))[:16]


@dataclass(frozen=True)
class Part:
    """A finished part: its adversarial images (N, C, H, W) or other tensor, and notes that JSON can hold."""

    images: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


class CachePart(Protocol):
    """Returns the part of this name from the cache, or computes it, caches it and returns it."""

    def __call__(self, name: str, compute: Callable[[], Part], /) -> Part: ...


def uncached(name: str, compute: Callable[[], Part], /) -> Part:
    """Computes every part anew."""
    return compute()


class Cache:
    """Finished parts and values below a folder of cache_folder's; without a folder everything is computed anew.

    What was computed just now comes back from its file too, so that a resumed piece of work and an undisturbed one go on
    with the same values. Keys are paths below the folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def parts(self, key: str, compute: Callable[[], dict[str, Part]]) -> dict[str, Part]:
        """The parts that one computation gives, by name, on the CPU."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{key}.npz"
        found = _read_parts(path)
        if found is None:
            write_whole(path, _npz(compute()))
            found = _read_parts(path)
            assert found is not None  # written just now
        return found

    def below(self, key: str) -> CachePart:
        """Caches single parts below a key, for attacks that work in parts themselves."""

        def cached(name: str, compute: Callable[[], Part], /) -> Part:
            return self.parts(f"{key}/{name}", lambda: {name: compute()})[name]

        return cached

    def value(self, key: str, compute: Callable[[], Any]) -> Any:
        """A value that JSON can hold and that is not None."""
        if self.folder is None:
            return compute()
        if self.stored(key) is None:
            write_whole(self.folder / f"{key}.json", json.dumps(compute()).encode())
        return self.stored(key)

    def stored(self, key: str) -> Any:
        """The value of a key; None where there is none, or it cannot be read and is to be made again."""
        try:
            return self.folder and json.loads((self.folder / f"{key}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def has(self, key: str) -> bool:
        """Whether the parts of a key are there."""
        return self.folder is not None and (self.folder / f"{key}.npz").exists()

    def remove(self) -> None:
        """Takes away what finished work needs no longer."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def once(out: Path, record: Path, identity: Any, work: Callable[[], object]) -> bool:
    """Does `work`, which writes `out` last, unless `record` says that what is there is of this identity.

    Returns whether it worked. The record is written after it, so that a killed call is repeated.
    """
    made = canonical_json(identity)
    if out.exists() and record.exists() and record.read_bytes() == made:
        return False
    record.unlink(missing_ok=True)
    work()
    write_whole(record, made)
    return True


def _npz(parts: dict[str, Part]) -> bytes:
    buffer = io.BytesIO()
    notes = json.dumps({name: part.notes for name, part in parts.items()}).encode()
    images = {f"images/{name}": part.images.cpu().numpy() for name, part in parts.items()}
    np.savez(buffer, notes=np.frombuffer(notes, dtype=np.uint8), **images)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    return buffer.getvalue()


def _read_parts(path: Path) -> dict[str, Part] | None:
    """The parts of a file; None where there is none, or it cannot be read and is to be made again."""
    try:
        with open_arrays(path) as archive:
            notes = json.loads(archive.read("notes").tobytes())
            return {name: Part(torch.from_numpy(archive.read(f"images/{name}")), notes[name]) for name in notes}
    except ArchiveError:
        return None


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Generator[bool]:
    """Holds a file's lock; gives False where another process has it and `wait` is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
