"""Columns of the outcome table: what the network and the exported file answer, to images, attacks and corruptions.

The reference columns are the network's own in float32; the served ones the exported file's, on clean and adversarial
images and under the fifteen common corruptions, five severities each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.corruptions import NAMES, SEVERITIES, corrupt
from bundle.served.replay import ReplayedVerdicts, judge
from bundle.served.runtime import OnnxClassifier
from bundle.table.outcomes import confidences, margins
from pipeline.run.cache import Cache, Part
from pipeline.run.environment import own_harness

ANSWERS = "answers"


class ReferenceColumns:
    """The reference columns as they are filled in: what the network itself answers, in float32."""

    def __init__(self, network: nn.Module, labels: NDArray[np.int64], batch_size: int) -> None:
        self.network, self.labels, self.batch_size = network, labels, batch_size
        self.columns: dict[str, Any] = {}

    def judge(self, key: str, images: Tensor) -> None:
        verdicts = judge_reference(self.network, images, self.labels, self.batch_size)
        self.columns |= _columns("reference", key, verdicts, self.labels)


def served_columns(
    classifier: OnnxClassifier, images: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The outcome table's served columns: every image of the evidence replayed through the exported file."""
    columns: dict[str, NDArray[Any]] = {}
    for name, array in images.items():
        columns |= _columns("served", name, judge(classifier, array, labels), labels)
    return columns


def _columns(setting: str, key: str, verdicts: ReplayedVerdicts, labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    broken = {} if key == "clean" else {f"{setting}/{key}/broken": verdicts.predictions != labels}
    return {
        **broken,
        f"{setting}/{key}/prediction": verdicts.predictions,
        f"{setting}/{key}/margin": verdicts.margins,
        f"{setting}/{key}/confidence": verdicts.confidences,
    }


@torch.no_grad()
def judge_reference(network: nn.Module, images: Tensor, labels: NDArray[np.int64], batch_size: int) -> ReplayedVerdicts:
    """ReplayedVerdicts of the network itself: `images` float (N, C, H, W) in [0, 1] on its device, `labels` (N,).

    The network is in eval mode, in float32.
    """
    logits = torch.cat([network(batch) for batch in images.split(batch_size)]).float().cpu().numpy()
    return ReplayedVerdicts(logits.argmax(axis=1), margins(logits, labels), confidences(logits))


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


def describe_corruptions(seed: int) -> dict[str, Any]:
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
