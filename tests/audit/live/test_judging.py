"""What another host may answer is never contradicted, what it cannot is; with ONNX Runtime and without."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.live.findings import Asked, Logits, against_model, against_table, moved
from audit.live.questions import Question
from audit.live.service import Answers
from bundle.bundle import Bundle, open_bundle
from bundle.private import image_sets
from bundle.served.runtime import OnnxClassifier
from tests.bundles import make_bundle

TOLERANCE = 0.25


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a tolerance so wide that some rows are too close to tell."""
    return tolerating(open_bundle(make_bundle(tmp_path_factory.mktemp("judged") / "bundle")), TOLERANCE, rows=64)


def tolerating(bundle: Bundle, tolerance: float, rows: int) -> Bundle:
    statement = copy.deepcopy(dict(bundle.statement))
    statement["predicate"]["parity"]["tolerance"] = tolerance
    statement["predicate"]["selfCheck"] = {"rows": rows, "allowedMoved": 1}
    return replace(bundle, statement=statement)


def logits_of(bundle: Bundle, name: str) -> Logits:
    return OnnxClassifier(bundle.model, threads=1, device="cpu").logits(bundle.images[name])


def answers_of(logits: NDArray[np.floating]) -> Answers:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return Answers(logits.argmax(axis=1), powers / powers.sum(axis=1, keepdims=True))


def elsewhere(logits: Logits, by: float, seed: int = 0) -> Answers:
    """The answers of a host whose logits are off by as much as `by`."""
    return answers_of(logits + np.random.default_rng(seed).choice([-by, by], logits.shape))


@pytest.mark.parametrize("runtime", [True, False])
def test_a_host_within_the_tolerance_is_not_contradicted(bundle: Bundle, runtime: bool) -> None:
    rows, close = np.arange(len(bundle.outcomes)), 0
    for name in image_sets(bundle.predicate):
        logits = logits_of(bundle, name)
        for seed in range(20):
            found = elsewhere(logits, TOLERANCE * 0.999, seed)
            against = [
                against_table(bundle, name, rows, found, logits if runtime else None),
                against_model(bundle, logits, found),
            ]
            assert not any(judged.contradicted.any() for judged in against), name
            close += sum(int(judged.close.sum()) for judged in against)
    assert close > 20


@pytest.mark.parametrize("runtime", [True, False])
def test_an_answer_beyond_the_tolerance_is_contradicted(bundle: Bundle, runtime: bool) -> None:
    rows, logits = np.arange(len(bundle.outcomes)), logits_of(bundle, "clean")
    wrong = logits.copy()
    wrong[rows, logits.argmin(axis=1)] = logits.max(axis=1) + 1
    found = answers_of(wrong)
    assert against_model(bundle, logits, found).contradicted.all()
    told = bundle.outcomes.clean_right("served") & (bundle.outcomes["served/clean/margin"] > 2.2 * TOLERANCE)
    judged = against_table(bundle, "clean", rows, found, logits if runtime else None)
    assert told.sum() > 40 and judged.contradicted[told].all()
    assert not np.any(judged.contradicted & judged.close)


def test_two_wrong_classes_apart_are_contradicted_without_onnx_runtime_too(bundle: Bundle) -> None:
    """The margin says nothing there; what the attested confidence leaves to other classes does."""
    name, rows = "linf-32/margin", np.arange(len(bundle.outcomes))
    said, label = bundle.outcomes[f"served/{name}/prediction"], bundle.outcomes["label"]
    third = np.array([next(k for k in range(10) if k not in pair) for pair in zip(said, label, strict=True)])
    judged = against_table(bundle, name, rows, Answers(third, np.zeros((len(rows), 10))), None)
    sure = (said != label) & (bundle.outcomes[f"served/{name}/confidence"] > 0.8)
    assert sure.sum() >= 5 and judged.contradicted[sure].all()


def test_the_right_class_with_another_belief_is_contradicted(bundle: Bundle) -> None:
    logits = logits_of(bundle, "clean")
    found = answers_of(logits * 3)
    assert np.array_equal(found.labels, logits.argmax(axis=1))
    assert against_model(bundle, logits, found).contradicted.sum() > 20


def test_more_moved_verdicts_than_the_bundle_allows_contradict(bundle: Bundle) -> None:
    rows, asked = np.arange(len(bundle.outcomes)), []
    for name in image_sets(bundle.predicate):
        logits = logits_of(bundle, name)
        question = Question(name, bundle.images[name], name, rows)
        asked.append(Asked(question, "npy", elsewhere(logits, TOLERANCE * 0.999), logits))
    [found] = moved(bundle, asked)
    assert found.verdicts > 1 and found.allowed == 1 and found.contradicted
    [untold] = moved(tolerating(bundle, TOLERANCE, rows=1), asked)
    assert untold.allowed is None and not untold.contradicted
    [same] = moved(bundle, [replace(item, answers=answers_of(logits_of(bundle, item.question.name))) for item in asked])
    assert (same.verdicts, same.contradicted) == (0, False)
