"""params.yaml: its schema, what it leaves out, and what is wrong with it.

What the file leaves out (or sets to null) is filled in by three owners: the method (loss weights, crafting), the data
(eps, network, image size, augmentation, sample size) and the schedule (epochs, learning rate, averaging).
"""

from __future__ import annotations

from pathlib import Path

from pipeline.params.complaints import ParamsError, validated
from pipeline.params.defaults import RADII, complete, is_section
from pipeline.params.reading import read_yaml
from pipeline.params.schema import (
    AttackSettings,
    CertifySettings,
    DataSettings,
    Params,
    Section,
    TrainSettings,
)

__all__ = [
    "RADII",
    "AttackSettings",
    "CertifySettings",
    "DataSettings",
    "Params",
    "ParamsError",
    "Section",
    "TrainSettings",
    "complete",
    "load_params",
    "read_yaml",
    "validated",
]


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads, validates and completes a params file.

    Returns settings in which every default is filled in by its owner, so that they can be recorded as they are.
    Raises ParamsError with one line a wrong field (`method.alpha: must be ≥ 0, got -1`).
    """
    path = Path(path)
    document = read_yaml(path, "there is no such file; run from the folder that holds params.yaml")
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: must be a mapping with the sections {', '.join(Params.model_fields)}")
    return complete({key: {} if value is None and is_section(key) else value for key, value in document.items()})
