"""Where a run's parts lie: below out/, or below a folder of its own with the same layout."""

from __future__ import annotations

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
