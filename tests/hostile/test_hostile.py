"""Hostile input to the real commands: refused in one sentence, nothing written, within the memory that is stated."""

from __future__ import annotations

import pytest

from tests.hostile.__main__ import attempt, wrong
from tests.hostile.cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_hostile_input_is_refused_in_one_sentence(case: Case) -> None:
    assert wrong(case, attempt(case)) == []
