"""How a training went, epoch by epoch, in the few numbers that pages and plots show."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError
from pipeline.run.records import read_input

HISTORY = "history.csv"


def training_curve(trained: Path) -> list[dict[str, Any]]:
    """Each epoch's loss (the sum of the weighted terms) and validation accuracies, of history.csv in the folder of weights.

    Raises HallmarkError where the file is not there or is no history.
    """
    text = read_input(trained / HISTORY, "train").decode()
    try:
        return [_epoch(row) for row in csv.DictReader(text.splitlines())]
    except (KeyError, TypeError, ValueError):
        raise HallmarkError(f"{trained / HISTORY}: is no history of a training; make it again (`make repro`)") from None


def _epoch(row: dict[str, str]) -> dict[str, Any]:
    loss = math.fsum(float(value) for name, value in row.items() if name.startswith("loss_"))
    return {
        "epoch": int(row["epoch"]),
        "loss": float(f"{loss:.6g}"),
        "clean": float(row["validation_clean"]),
        "pgd_10": float(row["validation_pgd_10"]),
    }
