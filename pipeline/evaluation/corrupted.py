"""What the served model answers under the fifteen common corruptions, five severities each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.corruptions import NAMES, SEVERITIES, corrupt
from bundle.served.runtime import OnnxClassifier
from pipeline.run.cache import Cache, Part
from pipeline.run.environment import own_harness

ANSWERS = "answers"


def corruption_columns(
    classifier: OnnxClassifier,
    images: NDArray[np.uint8],
    index: NDArray[np.integer[Any]],
    *,
    seed: int,
    say: Callable[[str], None],
    cache: Cache,
) -> dict[str, NDArray[np.int64]]:
    """The outcome table's columns `served/corruption/NAME-SEVERITY/prediction`, each (N,).

    Parameters
    ----------
    images, index : clean uint8 (N, H, W, C) and their rows in the test split (N,).
    seed : the corruptions are drawn from it, image by image.
    say : is told a line for each corruption.
    cache : its folder must say which model, images, rows and seed the answers are of.

    Raises HallmarkError where the images are not grey or RGB, or not the model's.
    """
    columns: dict[str, NDArray[np.int64]] = {}
    for place, name in enumerate(NAMES, start=1):

        def answered(name: str = name) -> dict[str, Part]:
            return {ANSWERS: Part(torch.from_numpy(_answers(classifier, images, index, name, seed)))}

        answers = cache.parts(f"corruptions/{name}", answered)[ANSWERS].images.numpy()
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
