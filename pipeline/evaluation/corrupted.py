"""What the served model answers under the fifteen common corruptions, five severities each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.corruptions import NAMES, SEVERITIES, corrupt
from bundle.digests import write_whole
from bundle.formats.archives import DAMAGE
from bundle.served.runtime import OnnxClassifier
from pipeline.run.environment import VERSION, own_harness


def corruption_columns(
    classifier: OnnxClassifier,
    images: NDArray[np.uint8],
    index: NDArray[np.integer[Any]],
    *,
    seed: int,
    say: Callable[[str], None],
    kept: Path | None = None,
) -> dict[str, NDArray[np.int64]]:
    """The outcome table's columns `served/corruption/NAME-SEVERITY/prediction`, each (N,).

    Parameters
    ----------
    images, index : clean uint8 (N, H, W, C) and their rows in the test split (N,).
    seed : the corruptions are drawn from it, image by image.
    say : is told a line for each corruption.
    kept : a folder of this model's, where the answers of finished corruptions are kept and found again. What was kept
        for other images, rows or seed, or cannot be read, is computed anew.

    Raises HallmarkError where the images are not grey or RGB, or not the model's.
    """
    key = _key(images, index, seed)
    columns: dict[str, NDArray[np.int64]] = {}
    for place, name in enumerate(NAMES, start=1):
        file = kept / f"{name}-{key}.npy" if kept else None
        answers = _read(file, len(images))
        if answers is None:
            answers = _answers(classifier, images, index, name, seed)
            if file:
                _write(file, answers)
        for severity, predictions in zip(SEVERITIES, answers, strict=True):
            columns[f"served/corruption/{name}-{severity}/prediction"] = predictions
        say(f"corruptions: {place} of {len(NAMES)}, {name}")
    return columns


def describe(seed: int) -> dict[str, Any]:
    """The corruptions as the attestation's predicate records them."""
    return {"names": list(NAMES), "severities": list(SEVERITIES), "seed": seed, "harness": own_harness("corruptions")}


def _answers(
    classifier: OnnxClassifier, images: NDArray[np.uint8], index: NDArray[np.integer[Any]], name: str, seed: int
) -> NDArray[np.int64]:
    """Predictions (severities, N) under one corruption."""
    return np.stack(
        [
            classifier.logits_in_batches(corrupt(images, name, severity, seed=seed, index=index)).argmax(axis=1)
            for severity in SEVERITIES
        ]
    ).astype(np.int64)


def _key(images: NDArray[np.uint8], index: NDArray[np.integer[Any]], seed: int) -> str:
    """Twelve digits that name these images, rows, seed and version of the corruptions."""
    digest = hashlib.sha256(f"{VERSION} {seed} {images.shape} {index.tolist()}".encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    return digest.hexdigest()[:12]


def _read(file: Path | None, count: int) -> NDArray[np.int64] | None:
    if file is None or not file.exists():
        return None
    try:
        answers = np.load(file, allow_pickle=False)
    except DAMAGE:
        return None
    return answers if answers.shape == (len(SEVERITIES), count) and answers.dtype == np.int64 else None


def _write(file: Path, answers: NDArray[np.int64]) -> None:
    def save(path: Path) -> None:
        with open(path, "wb") as opened:
            np.save(opened, answers)

    write_whole(file, save)
