"""What the stages leave for each other: where a run's parts lie, and their records in JSON.

A record is read whole, or refused with the file's name and the stage that makes it. It holds more than is named here:
what later stages take from it by name must be there, of its kind. The rest goes into the attestation as it is, whose
schema judges it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bundle.digests import each_once
from bundle.errors import HallmarkError
from pipeline.params import ParamsError, validated


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


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Split(_Part):
    count: int = Field(ge=0)
    per_class: list[int]
    sha256: str
    origin: str


class _Splits(_Part):
    train: _Split
    validation: _Split
    test: _Split


class Manifest(_Part):
    """out/data/manifest.json, of the stage prepare."""

    name: str
    classes: list[str] = Field(min_length=1)
    image_shape: list[int] = Field(min_length=3, max_length=3)
    source: str
    licence: str
    preprocessing: Any
    leakage: dict[str, Any]
    splits: _Splits
    settings: dict[str, Any]


class _Method(_Part):
    name: str
    title: str
    reconstructed: bool


class _Selection(_Part):
    split: str


class _TrainingSettings(_Part):
    method: dict[str, Any] = {}
    network: dict[str, Any] = {}


class TrainingRecord(_Part):
    """out/train/training.json, of the stage train."""

    settings: _TrainingSettings
    selection: _Selection
    environment: dict[str, Any]
    parameters: int
    method: _Method


class _Threat(_Part):
    name: str
    norm: str


class _Attack(_Part):
    name: str
    threat: str
    flags: list[str]


class AttackRecord(_Part):
    """out/evidence/attacks.json, of the stage attack."""

    tier: str
    sample: dict[str, Any]
    threats: list[_Threat] = Field(min_length=1)
    mainThreats: list[str] = Field(min_length=1)  # the attestation's name
    unions: list[dict[str, Any]]
    attacks: list[_Attack] = Field(min_length=1)
    corruptions: dict[str, Any] | None
    distances: list[dict[str, Any]]
    surface: dict[str, Any] | None
    sanity: list[dict[str, Any]]
    settings: dict[str, Any]


class _Smoothing(_Part):
    name: str
    sigma: float
    radii: list[float]


class CertifyRecord(_Part):
    """out/certified/smoothing.json, of the stage certify; settings null where nothing was certified."""

    smoothing: list[_Smoothing]
    proofs: list[dict[str, Any]]
    settings: dict[str, Any] | None


class ExportRecord(_Part):
    """out/parity.json, of the stage export."""

    parity: dict[str, Any]
    settings: dict[str, Any]


#: The stage that makes each.
MAKERS: dict[type[BaseModel], str] = {
    Manifest: "prepare",
    TrainingRecord: "train",
    ExportRecord: "export",
    AttackRecord: "attack",
    CertifyRecord: "certify",
}


def load_record(path: str | Path, form: type[BaseModel]) -> dict[str, Any]:
    """A stage's record as it was written; raises HallmarkError."""
    path, stage = Path(path), MAKERS[form]
    remedy = f"the stage {stage} makes it (`dvc repro --force {stage}`)"
    try:
        document = json.loads(read_input(path, stage), object_pairs_hook=each_once)
        validated(form, document)
    except (ValueError, RecursionError) as error:  # text that is not UTF-8 is a ValueError too
        raise HallmarkError(f"{path}: is not JSON ({error}); {remedy}") from None
    except ParamsError as error:
        raise HallmarkError(f"{path}: {str(error).splitlines()[0].removeprefix(': ')}; {remedy}") from None
    return document


def read_input(path: Path, stage: str) -> bytes:
    """A file that another stage makes; raises HallmarkError where it is not there or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise HallmarkError(
            f"{path}: there is no such file; the stage {stage} makes it (`dvc repro {stage}`)"
        ) from None
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read ({error.strerror}); the stage {stage} makes it") from None
