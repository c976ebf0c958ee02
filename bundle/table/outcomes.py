"""The outcome table: one row per image, what each attack achieved on it, in two settings that are never mixed.

Columns: `index` (row of the test split), `label`, `image_sha256` (of the uint8 pixels, (H, W, C) in C order);
`SETTING/clean/prediction`, `…/margin` and `…/confidence`; for each attack `SETTING/THREAT/ATTACK/broken` and the same
three; `served/corruption/NAME-SEVERITY/prediction` (see bundle.numbers.breakdowns); `reference/distance/NAME`, the l2 distance
in pixel range at which a minimum-norm attack found an adversarial image, +inf where it found none; for each smoothed
classifier `NAME/selected` (class), `NAME/successes` (count) and `NAME/radius` (l2, in pixel range).

SETTING is `reference` (torch, float32, float adversarial images) or `served` (ONNX Runtime, 8-bit adversarial images).
A margin is the logit of the label minus the largest other logit: negative where the answer is wrong. A confidence is
the softmax probability of the class that was answered.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.formats.parquet import ParquetError, read_parquet

SETTINGS = ("reference", "served")

#: The columns of minimum-norm attacks begin so.
DISTANCES = "reference/distance/"

#: What names an image and its label; every table of the stage attack has them.
IMAGE_COLUMNS = ("index", "label", "image_sha256")

#: What a column holds, by the last part of its name.
KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "index": pa.types.is_integer,
    "label": pa.types.is_integer,
    "image_sha256": pa.types.is_string,
    "prediction": pa.types.is_integer,
    "broken": pa.types.is_boolean,
    "margin": pa.types.is_floating,
    "confidence": pa.types.is_floating,
    "selected": pa.types.is_integer,
    "successes": pa.types.is_integer,
    "radius": pa.types.is_floating,
    "eps_255": pa.types.is_floating,
}


class OutcomeError(HallmarkError):
    """The outcome table lacks a column, or contradicts itself."""


def margins(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """The logit of the label minus the largest other logit; logits (N, K), labels (N,), returns (N,)."""
    rows = np.arange(len(labels))
    others = logits.astype(np.float32, copy=True)
    others[rows, labels] = -np.inf
    return (logits[rows, labels] - others.max(axis=1)).astype(np.float32)


def confidences(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The softmax probability of the answered class; logits (N, K), returns (N,) in [0, 1].

    Computed in float64. An answer that is no number has no confidence: 0 where the largest logit is NaN or infinite.
    """
    exact = logits.astype(np.float64)
    largest = exact.max(axis=1, keepdims=True)
    finite = np.isfinite(largest)
    shifted = np.where(finite, exact, 0.0) - np.where(finite, largest, 0.0)
    return np.where(finite[:, 0], 1 / np.exp(shifted).sum(axis=1), 0.0).astype(np.float32)


def distance_column(name: str) -> str:
    """The column of a minimum-norm attack's distances."""
    return f"{DISTANCES}{name}"


def image_digests(images: NDArray[np.uint8]) -> list[str]:
    """The SHA-256 of every image's pixels; images uint8 (N, H, W, C)."""
    return [sha256_bytes(np.ascontiguousarray(image).tobytes()) for image in images]


class Outcomes:
    """An outcome table with its columns by name."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns: dict[str, NDArray[Any]] = {name: np.asarray(values) for name, values in columns.items()}
        lengths = {len(values) for values in self.columns.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise OutcomeError(
                f"outcome table: every column must have the same number of rows, at least 1, got {lengths}"
            )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __repr__(self) -> str:
        return f"Outcomes({len(self)} images, {len(self.columns)} columns)"

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a row an image; raises HallmarkError where pandas is not installed."""
        try:
            pandas: Any = importlib.import_module("pandas")
        except ModuleNotFoundError:
            raise HallmarkError("to_pandas: pandas is not installed: pip install pandas") from None
        return pandas.DataFrame(self.columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.columns:
            raise OutcomeError(f"outcome table: has no column {name}")
        return self.columns[name]

    def with_columns(self, columns: Mapping[str, Any]) -> Outcomes:
        """A new table with these columns added or replaced."""
        return Outcomes({**self.columns, **columns})

    def clean_right(self, setting: str) -> NDArray[np.bool_]:
        """Which images are classified right without an attack."""
        return self[f"{setting}/clean/prediction"] == self["label"]

    def robust(self, setting: str, threat: str, attacks: Iterable[str]) -> NDArray[np.bool_]:
        """Which images are right when clean and under every one of these attacks."""
        right = self.clean_right(setting)
        for attack in attacks:
            right = right & ~self[f"{setting}/{threat}/{attack}/broken"].astype(bool)
        return right

    def contradictions(self) -> list[str]:
        """What disagrees with itself, a sentence each: a verdict and its margin, or its prediction, in some row."""
        wrong: list[str] = []
        for name in self.columns:
            if name.endswith("/broken"):
                right, prefix = ~self[name].astype(bool), name.removesuffix("broken")
                if _contradict(self[f"{prefix}margin"], right):
                    wrong.append(f"{name} contradicts its margins")
                elif np.any(right != (self[f"{prefix}prediction"] == self["label"])):
                    wrong.append(f"{name} contradicts its predictions")
        for setting in SETTINGS:
            name = f"{setting}/clean/margin"
            if name in self.columns and _contradict(self[name], self.clean_right(setting)):
                wrong.append(f"{setting}/clean/prediction contradicts its margins")
        return wrong

    def save(self, path: str | Path) -> None:
        """Writes Parquet whose bytes depend on the table alone."""
        write_whole(path, self.parquet())

    def parquet(self) -> bytes:
        """The table as the bytes of a Parquet file."""
        table = pa.table({name: pa.array(values) for name, values in self.columns.items()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue().to_pybytes()


def read_outcomes(
    content: bytes, where: str, columns: Sequence[str] | None = None, rows: int | None = None
) -> Outcomes:
    """Reads a table from a Parquet file's bytes; `where` names the file in the message of the OutcomeError.

    `columns` and `rows`, where they are known, are held against what the file says before any value is unpacked. Refused:
    what formats.parquet refuses, a column that is there twice, a row without a value, and values not of the column's kind.
    """
    try:
        table = read_parquet(content, columns, rows)
    except ParquetError as error:
        raise OutcomeError(f"{where}: {error}") from None
    found: dict[str, NDArray[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        expected = KINDS["margin"] if name.startswith(DISTANCES) else KINDS.get(name.rsplit("/", 1)[-1])
        if name in found or column.null_count or (expected and not expected(kind)):
            raise OutcomeError(f"{where}: {name}: must be there once, without gaps, and of its kind; is {kind}")
        try:
            found[name] = column.cast(kind).to_numpy()
        except (pa.ArrowException, ValueError) as error:  # a text that is no UTF-8
            raise OutcomeError(f"{where}: {name}: cannot be read ({error})") from None
    try:
        return Outcomes(found)
    except OutcomeError as error:
        raise OutcomeError(f"{where}: {str(error).removeprefix('outcome table: ')}") from None


def _contradict(margin: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> bool:
    """Whether a margin denies its verdict; an answer that is no number is not a right one."""
    return bool(np.any(((margin < 0) | np.isnan(margin)) & right) or np.any((margin > 0) & ~right))


def load_outcomes(path: str | Path, columns: Iterable[str] = ("index", "label")) -> Outcomes:
    """Reads a table from a file; raises OutcomeError where it is missing, is not one, or lacks one of `columns`."""
    try:
        outcomes = read_outcomes(Path(path).read_bytes(), str(path))
    except FileNotFoundError:
        raise OutcomeError(f"{path}: there is no such outcome table") from None
    except OSError as error:
        raise OutcomeError(f"{path}: cannot be read ({error.strerror})") from None
    if absent := [name for name in columns if name not in outcomes.columns]:
        raise OutcomeError(f"{path}: has no column {', '.join(absent)}")
    return outcomes
