"""Which columns an outcome table has, by their names, given what a predicate says was evaluated; and how many it may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bundle.corruptions import SEVERITIES
from bundle.layout import ATTESTATION, COLUMNS, ROWS, VALUES
from bundle.table.outcomes import SETTINGS, OutcomeError, distance_column

SMOOTHING_PARTS = ("selected", "successes", "radius")


ANSWER_PARTS = ("prediction", "margin", "confidence")


def corruption_column(name: str, severity: int) -> str:
    """The column of the served answers to corrupted images."""
    return f"served/corruption/{name}-{severity}/prediction"


def corruption_columns(names: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Every (name, severity, column) of these corruptions."""
    for name in names:
        for severity in SEVERITIES:
            yield name, severity, corruption_column(name, severity)


def proof_column(norm: str) -> str:
    """The column of proved radii in a norm."""
    return f"proved/{norm}/eps_255"


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


def check_extent(predicate: Mapping[str, Any]) -> list[str]:
    """The columns that an attestation asks for, before anything goes through them.

    Raises OutcomeError where its rows and columns are more than bundle.layout grants an outcome table.
    """
    expected, rows = expected_columns(predicate), predicate["sample"]["size"]
    if rows > ROWS or len(expected) > COLUMNS or rows * len(expected) > VALUES:
        limits = f"{ROWS} rows, {COLUMNS} columns and {VALUES} values at most"
        raise OutcomeError(f"{ATTESTATION}: asks for {rows} rows of {len(expected)} columns; a table may have {limits}")
    return expected
