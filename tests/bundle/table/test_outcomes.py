"""The outcome table: what its numbers mean, what contradicts itself, what is read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bundle.table.outcomes import OutcomeError, Outcomes, confidences, distance_column, margins, read_outcomes
from tests.bundle.tables import attack_columns, clean_columns

LABELS = np.array([0, 1, 0])


def table(**changes: Any) -> Outcomes:
    columns: dict[str, Any] = {"label": LABELS, **clean_columns("served", LABELS)}
    columns["served/clean/margin"] = np.ones(3)
    return Outcomes(columns | attack_columns("served/linf-8/margin", LABELS, [0, 1, 0]) | changes)


def test_a_confidence_is_the_softmax_of_the_largest_logit() -> None:
    logits = np.array([[0.0, 0.0], [np.log(3.0), 0.0], [0.0, np.log(9.0)]], dtype=np.float32)
    assert confidences(logits) == pytest.approx([0.5, 0.75, 0.9])
    assert confidences(logits).dtype == np.float32


def test_a_confidence_survives_large_logits_and_shifts() -> None:
    logits = np.array([[1e4, 1e4 - 1, -1e4]])
    assert confidences(logits) == pytest.approx([1 / (1 + np.exp(-1))])
    assert confidences(np.array([[-np.inf, 5.0]])) == pytest.approx([1.0])


@pytest.mark.parametrize("logits", [[np.nan, 1.0], [np.inf, 1.0], [np.inf, np.inf], [-np.inf, -np.inf]])
def test_an_answer_that_is_no_number_has_no_confidence(logits: list[float]) -> None:
    assert confidences(np.array([logits, [0.0, 0.0]])).tolist() == [0.0, 0.5]


def test_a_margin_and_a_confidence_are_of_the_same_logits() -> None:
    """With two classes a confidence is the logistic function of the margin's size."""
    logits = np.random.default_rng(0).normal(0, 3, (50, 2))
    labels = np.zeros(50, dtype=np.int64)
    assert confidences(logits) == pytest.approx(1 / (1 + np.exp(-np.abs(margins(logits, labels)))), abs=1e-6)


def test_an_honest_table_does_not_contradict_itself() -> None:
    assert table().contradictions() == []


@pytest.mark.parametrize(
    ("column", "values", "sentence"),
    [
        ("broken", np.array([False, False, False]), "broken contradicts its margins"),
        ("margin", np.array([1.0, 0.5, 1.0]), "broken contradicts its margins"),
        ("prediction", np.array([0, 1, 0]), "broken contradicts its predictions"),
        ("prediction", np.array([1, 0, 0]), "broken contradicts its predictions"),
    ],
)
def test_verdict_margin_and_prediction_say_the_same(column: str, values: Any, sentence: str) -> None:
    name = f"served/linf-8/margin/{column}"
    assert table(**{name: values}).contradictions() == [f"served/linf-8/margin/{sentence}"]


def test_another_wrong_class_is_no_contradiction() -> None:
    """Broken says wrong, not how."""
    assert table(**{"served/linf-8/margin/prediction": np.array([0, 2, 0])}).contradictions() == []


def test_a_table_is_read_back_as_it_was() -> None:
    written = table(**{distance_column("cw"): np.array([0.5, np.inf, 0.0])})
    found = read_outcomes(written.parquet(), "outcomes.parquet")
    assert found.columns.keys() == written.columns.keys()
    assert all(np.array_equal(found[name], values) for name, values in written.columns.items())


@pytest.mark.parametrize("name", [distance_column("prediction"), "served/clean/confidence"])
def test_columns_of_another_kind_are_refused(name: str) -> None:
    """A distance is a number whatever its attack is called."""
    with pytest.raises(OutcomeError, match=f"{name}: must be there once"):
        read_outcomes(table(**{name: np.array([1, 0, 1])}).parquet(), "outcomes.parquet")
