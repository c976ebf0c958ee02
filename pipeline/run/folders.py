"""Where a run's parts lie: below out/, or below a folder of its own with the same layout.

Locks that end with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """The folders and files of a run, below `root`."""

    root: Path = Path("out")

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def trained(self) -> Path:
        return self.root / "train"

    @property
    def model(self) -> Path:
        return self.root / "model.onnx"

    @property
    def parity(self) -> Path:
        return self.root / "parity.json"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def certified(self) -> Path:
        return self.root / "certified"

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"


#: Where `dvc repro` works.
OUT = Folders()


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
