"""Answers held against the outcome table, and against model.onnx as it runs here.

Another host rounds otherwise: its logits may be off by the attested parity's tolerance. So two classes whose logits are
within twice that tolerance are too close to tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.live.asking import Answers
from bundle.bundle import Bundle
from bundle.replay import reach

Logits = NDArray[np.float32]

#: Margins of private evidence have two digits, confidences two decimals.
RELATIVE, ABSOLUTE = 0.05, 0.005
#: What adding up K probabilities may lose.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Judged:
    """Which answers (N,) are contradicted, and which differ where it is too close to tell."""

    contradicted: NDArray[np.bool_]
    close: NDArray[np.bool_]


def against_table(
    bundle: Bundle, evidence: str, rows: NDArray[np.int64], answers: Answers, logits: Logits | None
) -> Judged:
    """Holds answers to the evidence's images against the attested answers.

    Parameters: `evidence` names the set of images, `rows` (N,) are theirs in the outcome table; `logits` (N, K) are those
    of model.onnx here. Where there are none, the attested margin says how close it is, and where two wrong classes
    differ, the attested confidence.
    """
    said = bundle.outcomes[f"served/{evidence}/prediction"][rows]
    differ = answers.labels != said
    if logits is not None:
        places = np.arange(len(rows))
        close = np.abs(logits[places, said] - logits[places, answers.labels]) <= reach(bundle.predicate)
    else:
        close = _close_by_table(bundle, evidence, rows, answers)
    return Judged(differ & ~close, differ & close)


def _close_by_table(bundle: Bundle, evidence: str, rows: NDArray[np.int64], answers: Answers) -> NDArray[np.bool_]:
    said, margin, confidence = (
        bundle.outcomes[f"served/{evidence}/{part}"][rows] for part in ("prediction", "margin", "confidence")
    )
    label = bundle.outcomes["label"][rows]
    share = np.clip(confidence - ABSOLUTE, 0.0, 1 - ROUNDING)
    # No other class has more than what the answered one leaves.
    other = np.log(np.maximum(share, ROUNDING) / (1 - share)) <= reach(bundle.predicate)
    both_wrong = (said != label) & (answers.labels != label)
    return np.where(both_wrong, other, np.abs(margin) * (1 - RELATIVE) <= reach(bundle.predicate))


def against_model(bundle: Bundle, logits: Logits, answers: Answers) -> Judged:
    """Holds answers against the logits (N, K) of model.onnx for the same images.

    Contradicted are answers of another class that is not too close, and those with a probability that no logits within
    the tolerance give.
    """
    exact = logits.astype(np.float64)
    places = np.arange(len(exact))
    gap = exact.max(axis=1) - exact[places, answers.labels]
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    allowed = shares * np.expm1(reach(bundle.predicate)) + ROUNDING
    possible = (np.abs(answers.probabilities - shares) <= allowed).all(axis=1)
    contradicted = (gap > reach(bundle.predicate)) | ~possible
    return Judged(contradicted, (gap > 0) & ~contradicted)
