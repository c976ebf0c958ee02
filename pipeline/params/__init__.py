"""params.yaml: its schema, what it leaves out, and what is wrong with it.

What the file leaves out (or sets to null) is filled in by three owners: the method (loss weights, crafting), the data
(eps, network, image size, augmentation, sample size) and the schedule (epochs, learning rate, averaging).
"""

from __future__ import annotations

from pipeline.params.defaults import RADII
from pipeline.params.reading import ParamsError, read_yaml, validated
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
    "read_yaml",
    "validated",
]
