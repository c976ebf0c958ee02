"""What the columns of an outcome table must be, given what its predicate says was evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bundle.layout import ATTESTATION, COLUMNS, ROWS, VALUES
from bundle.numbers.breakdowns import corruption_columns
from bundle.numbers.proofs import check_proofs, proof_column
from bundle.numbers.smoothing import certified_radii
from bundle.table.outcomes import SETTINGS, OutcomeError, Outcomes, distance_column

SMOOTHING_PARTS = ("selected", "successes", "radius")
ANSWER_PARTS = ("prediction", "margin", "confidence")


def expected_columns(predicate: Mapping[str, Any]) -> list[str]:
    """Every column that an outcome table with this predicate has, and no other."""
    attacks = [f"{item['threat']}/{item['name']}" for item in predicate["attacks"]]
    return [
        *("index", "label", "image_sha256"),
        *(f"{setting}/clean/{part}" for setting in SETTINGS for part in ANSWER_PARTS),
        *(f"{setting}/{name}/{part}" for setting in SETTINGS for name in attacks for part in ("broken", *ANSWER_PARTS)),
        *corrupted_columns(predicate),
        *(distance_column(item["name"]) for item in predicate["distances"]),
        *(f"{item['name']}/{part}" for item in predicate["smoothing"] for part in SMOOTHING_PARTS),
        *(proof_column(item["norm"]) for item in predicate["proofs"]),
    ]


def corrupted_columns(predicate: Mapping[str, Any]) -> Iterator[str]:
    """The columns of the common corruptions, where they were evaluated."""
    if predicate["corruptions"] is not None:
        for _, _, column in corruption_columns(predicate["corruptions"]["names"]):
            yield column


def check_rows(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    """Raises OutcomeError that names the column whose rows cannot be: too few, out of range, or contradicting others."""
    _check_columns(outcomes, predicate)
    index, size = outcomes["index"], predicate["sample"]["size"]
    if len(outcomes) != size:
        raise OutcomeError(f"has {len(outcomes)} rows, the sample should have {size}")
    if len(np.unique(index)) != len(index) or index.min() < 0:
        raise OutcomeError("index must be 0 or more and name every image once")
    _check_ranges(outcomes, len(predicate["data"]["classes"]))
    for item in predicate["smoothing"]:
        _check_smoothing(outcomes, item)
    for item in predicate["distances"]:
        _check_distances(outcomes, distance_column(item["name"]))
    for contradiction in outcomes.contradictions():
        raise OutcomeError(contradiction)
    check_proofs(outcomes, predicate)
    if predicate["surface"] is not None:
        for row in sorted(set(predicate["surface"]["rows"]) - set(index.tolist())):
            raise OutcomeError(f"has no index {row}, of which the attestation's surface is")


def check_extent(predicate: Mapping[str, Any]) -> list[str]:
    """The columns that an attestation asks for, before anything goes through them.

    Raises OutcomeError where its rows and columns are more than bundle.layout grants an outcome table.
    """
    expected, rows = expected_columns(predicate), predicate["sample"]["size"]
    if rows > ROWS or len(expected) > COLUMNS or rows * len(expected) > VALUES:
        limits = f"{ROWS} rows, {COLUMNS} columns and {VALUES} values at most"
        raise OutcomeError(f"{ATTESTATION}: asks for {rows} rows of {len(expected)} columns; a table may have {limits}")
    return expected


def _check_columns(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    expected = Counter(expected_columns(predicate))
    for name, count in expected.items():
        if count > 1:
            raise OutcomeError(f"column {name}: would be of two things that the attestation names")
        outcomes[name]  # raises where the table lacks it
    for name in outcomes.columns:
        if name not in expected:
            raise OutcomeError(f"column {name}: the attestation names nothing that it would be of")


def _check_ranges(outcomes: Outcomes, classes: int) -> None:
    for name, values in outcomes.columns.items():
        part = name.rsplit("/", 1)[-1]
        if part in ("label", "prediction") and (values.min() < 0 or values.max() >= classes):
            raise OutcomeError(f"{name} must be 0 to {classes - 1}, as there are {classes} classes")
        if part == "confidence" and not np.all((values >= 0) & (values <= 1)):
            raise OutcomeError(f"{name} must be 0 to 1, as it is a probability")


def _check_smoothing(outcomes: Outcomes, item: Mapping[str, Any]) -> None:
    name, samples = item["name"], item["estimation"]
    successes = outcomes[f"{name}/successes"]
    if successes.min() < 0 or successes.max() > samples:
        raise OutcomeError(f"{name}/successes must be 0 to {samples}")


def check_radii(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    """Raises OutcomeError where a smoothed classifier's radii are not those that its counts prove."""
    for item in predicate["smoothing"]:
        successes, radii = outcomes[f"{item['name']}/successes"], outcomes[f"{item['name']}/radius"]
        proved = certified_radii(successes, item["estimation"], item["sigma"], item["alpha"])
        if not np.allclose(radii, proved, atol=1e-9):
            raise OutcomeError(f"{item['name']}/radius is not what the counts prove")


def _check_distances(outcomes: Outcomes, name: str) -> None:
    if not np.all(outcomes[name] >= 0):  # a NaN is refused too
        raise OutcomeError(f"{name} must be 0 or more, or infinite where nothing was found")
