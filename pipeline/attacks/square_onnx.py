"""Square Attack straight against the exported file: 8-bit images in, scores out, nothing else, as a client has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.served.runtime import OnnxClassifier
from bundle.square.search import SquareResult, square
from bundle.table.threats import Threat

QUERIES = 1000


def square_onnx(
    model: bytes | OnnxClassifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    *,
    threat: Threat,
    seed: int,
    index: NDArray[np.integer[Any]],
    queries: int = QUERIES,
    batch_size: int = 256,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> SquareResult:
    """Square on the 8-bit grid against ONNX Runtime.

    Parameters
    ----------
    model : the bytes of model.onnx, or the classifier that they make; `threads` are those of a new one.
    images, labels : clean uint8 (N, H, W, C), and (N,).
    threat, seed, index, queries, batch_size, progress : as in bundle.square.search.square.

    Returns uint8 images inside the ball in whole levels, the queries each image took, and whether it is broken: what
    was found needs no rounding, so that the served setting judges the very images that the attack saw. Raises
    HallmarkError where the file is no served model, or the arrays do not fit together.
    """
    classifier = model if isinstance(model, OnnxClassifier) else OnnxClassifier(model, threads=threads)
    return square(
        classifier.logits,
        images,
        labels,
        threat=threat,
        seed=seed,
        index=index,
        queries=queries,
        batch_size=batch_size,
        progress=progress,
    )


def settings(queries: int = QUERIES, seed: int = 0) -> dict[str, Any]:
    """What was run, as the attestation records it."""
    return {"loss": "margin", "queries": queries, "seed": seed, "sees": "logits of model.onnx", "grid": "8-bit"}
