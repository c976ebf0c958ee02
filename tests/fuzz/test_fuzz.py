"""Some hundred mutated files for each parser, and all that a campaign ever found: `python -m tests.fuzz` runs for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import campaign, outcome
from tests.fuzz.mutation import generator, variant
from tests.fuzz.parsers import PARSERS

FOUND = sorted(path for path in (Path(__file__).parent / "found").glob("*/*"))


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_no_such_file_is_refused_in_a_sentence(name: str) -> None:
    found = campaign(name, PARSERS[name], 0, iter(range(120)))
    assert found.finds == {}
    assert found.counts.total() == 120 and found.counts["refused"]


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_taken_as_they_are_or_refused(name: str) -> None:
    """A parser that refuses all of its seeds would be mutated in vain."""
    said = [outcome(PARSERS[name], content) for content in PARSERS[name].seeds()]
    assert "accepted" in said and set(said) <= {"accepted", "refused"}


def test_an_input_follows_from_its_parser_seed_and_number() -> None:
    seeds = [b'{\n  "a": [1, 2, {"b": "c"}]\n}\n', bytes(range(256))]
    made = [variant(seeds, generator("one", 3, number)) for number in range(50)]
    assert made == [variant(seeds, generator("one", 3, number)) for number in range(50)]
    assert made != [variant(seeds, generator("two", 3, number)) for number in range(50)]


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_taken_or_refused(path: Path) -> None:
    assert outcome(PARSERS[path.parent.name], path.read_bytes()) in ("accepted", "refused")
