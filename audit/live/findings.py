"""From a service's answers to what they show: pure, so that the same answers give the same report.

Answers are held against the outcome table, and against model.onnx as it runs here. Another host rounds otherwise: its
logits may be off by the attested parity's tolerance, so two classes whose logits are within twice that tolerance are too
close to tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.live.questions import Question
from audit.live.report import Check, Fresh, LiveAccuracy, MovedAnswers, Stability
from audit.live.service import Answers, Way
from bundle.bundle import Bundle
from bundle.numbers.claims import find_claim
from bundle.numbers.intervals import accuracy, unpaired_interval
from bundle.pages.headline import attack_names
from bundle.private import CLEAN, image_sets
from bundle.served.replay import reach
from bundle.table.outcomes import Outcomes


@dataclass(frozen=True)
class Asked:
    """A question, how it was sent, what was answered, and the logits (N, K) of model.onnx here; None: it cannot run."""

    question: Question
    way: Way
    answers: Answers
    logits: Logits | None


def checks(bundle: Bundle, everything: Sequence[Asked]) -> Iterator[Check]:
    """Every question whose answers can be held against something."""
    for asked in everything:
        question, judged = asked.question, _judged(bundle, asked)
        if judged is not None:
            counts = len(question.images), int(judged.contradicted.sum()), int(judged.close.sum())
            yield Check(question.name, asked.way, "attestation" if question.exact else "model.onnx", *counts)


def _judged(bundle: Bundle, asked: Asked) -> Judged | None:
    question = asked.question
    if question.exact and question.rows is not None:
        return against_table(bundle, question.name, question.rows, asked.answers, asked.logits)
    return None if asked.logits is None else against_model(bundle, asked.logits, asked.answers)


def moved(bundle: Bundle, everything: Sequence[Asked]) -> Iterator[MovedAnswers]:
    """By way, how many verdicts moved though their class is too close to tell, and how many may.

    The bundle allows so many among the rows with the smallest margins; where more rows than those are close, nothing
    follows.
    """
    allowance = bundle.predicate["selfCheck"]
    near = [
        np.abs(bundle.outcomes[f"served/{name}/margin"]) <= reach(bundle.predicate)
        for name in image_sets(bundle.predicate)
    ]
    allowed = allowance["allowedMoved"] if np.sum(near) <= allowance["rows"] else None
    for way, exact in _by_way(everything).items():
        yield MovedAnswers(way, sum(_moved_verdicts(bundle, asked) for asked in exact), allowed)


def _moved_verdicts(bundle: Bundle, asked: Asked) -> int:
    judged, question = _judged(bundle, asked), asked.question
    assert judged is not None
    label = bundle.outcomes["label"][question.rows]
    said = bundle.outcomes[f"served/{question.name}/prediction"][question.rows]
    return int((judged.close & ((asked.answers.labels == label) != (said == label))).sum())


def accuracies(bundle: Bundle, everything: Sequence[Asked]) -> Iterator[LiveAccuracy]:
    """By way, clean accuracy, and robust accuracy under all attacks of each threat, from the answers alone."""
    for way, exact in _by_way(everything).items():
        rows = exact[0].question.rows
        said = Outcomes({name: values[rows] for name, values in bundle.outcomes.columns.items()})
        found = said.with_columns(_columns(said, exact))
        answered, attested = accuracy(found.clean_right("served")), accuracy(said.clean_right("served"))
        yield LiveAccuracy(way, "clean_accuracy", None, answered, attested)
        for threat in bundle.predicate["threats"] if len(exact) > 1 else []:
            names = attack_names(bundle.predicate, threat["name"])
            answered, attested = (accuracy(item.robust("served", threat["name"], names)) for item in (found, said))
            yield LiveAccuracy(way, "robust_accuracy", threat["name"], answered, attested)


def _columns(said: Outcomes, exact: Sequence[Asked]) -> Mapping[str, NDArray[np.int64] | NDArray[np.bool_]]:
    """The outcome table's served answers as the service gave them."""
    columns: dict[str, NDArray[np.int64] | NDArray[np.bool_]] = {}
    for asked in exact:
        columns[f"served/{asked.question.name}/prediction"] = asked.answers.labels
        if asked.question.name != CLEAN:
            columns[f"served/{asked.question.name}/broken"] = asked.answers.labels != said["label"]
    return columns


def fresh(bundle: Bundle, everything: Sequence[Asked]) -> Iterator[Fresh]:
    """By way, the accuracy on fresh images beside the attested clean accuracy, as two samples."""
    attested = find_claim(bundle.predicate, "clean_accuracy", setting="served")
    for asked in everything:
        if asked.question.labels is not None and attested is not None:
            answered = accuracy(asked.answers.labels == asked.question.labels)
            table = [[item["correct"], item["sampleSize"] - item["correct"]] for item in (answered, attested)]
            ends = [(item["value"], item["interval"]) for item in (attested, answered)]
            from scipy.stats import fisher_exact  # slow to import, and few audits come here

            chance: Any = fisher_exact(table, alternative="less")[1]
            yield Fresh(asked.way, answered, attested, unpaired_interval(*ends[0], *ends[1]), float(chance))


def stability(bundle: Bundle, everything: Sequence[Asked]) -> Iterator[Stability]:
    """By way, how often images with one level changed were answered as the unchanged ones are attested."""
    ways: dict[Way, None] = dict.fromkeys(asked.way for asked in everything)
    for way in ways:
        nudged = [item for item in everything if item.way == way and item.question.evidence and not item.question.exact]
        same = [
            item.answers.labels == bundle.outcomes[f"served/{item.question.evidence}/prediction"][item.question.rows]
            for item in nudged
        ]
        if same:
            yield Stability(way, sum(map(len, same)), int(sum(part.sum() for part in same)))


def _by_way(everything: Sequence[Asked]) -> dict[Way, list[Asked]]:
    """The images of the evidence by the way they were sent."""
    found: dict[Way, list[Asked]] = {}
    for asked in everything:
        if asked.question.exact:
            found.setdefault(asked.way, []).append(asked)
    return found


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
    likely = np.clip(confidence - ABSOLUTE, 0.0, 1 - ROUNDING)
    # No other class has more than what the answered one leaves.
    other = np.log(np.maximum(likely, ROUNDING) / (1 - likely)) <= reach(bundle.predicate)
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
    expected = powers / powers.sum(axis=1, keepdims=True)
    allowed = expected * np.expm1(reach(bundle.predicate)) + ROUNDING
    possible = (np.abs(answers.probabilities - expected) <= allowed).all(axis=1)
    contradicted = (gap > reach(bundle.predicate)) | ~possible
    return Judged(contradicted, (gap > 0) & ~contradicted)
