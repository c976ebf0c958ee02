"""YAML of version 1.2, and what is wrong with it in our own words, wherever it is read: settings, plans, policies."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import HallmarkError
from bundle.formats.yaml12 import YamlError, load, read
from bundle.gate.reading import read_policy

ALIAS = "* begins an alias of YAML, and this is none; quote text that begins with it"


def test_numbers_are_those_of_version_1_2() -> None:
    assert load("a: 1e-3\nb: .5\nc: 2\nd: '1e-3'") == {"a": 0.001, "b": 0.5, "c": 2, "d": "1e-3"}


def test_anchors_aliases_and_merged_mappings_are_followed() -> None:
    """The mapping's own name wins over one that is merged in, and is not there twice."""
    text = "one: &one {name: a, epochs: 3}\ntwo: {<<: *one, epochs: 5}\nthree: *one\n"
    assert load(text) == {
        "one": {"name": "a", "epochs": 3},
        "two": {"name": "a", "epochs": 5},
        "three": {"name": "a", "epochs": 3},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tier: quick\nsigned_by: [*.pub]\n", f"line 2, column 14: {ALIAS}, '*.pub'"),
        ("signed_by: *keys\n", "line 1, column 12: the alias *keys has no anchor &keys before it"),
        ("tier: &.x quick\n", "line 1, column 8: & begins an anchor of YAML, and this is none"),
        ("tier: &a [*a]\n", "line 1, column 7: an alias stands inside of what its own anchor names"),
        ("tier: &a {b: *a}\n", "line 1, column 7: an alias stands inside of what its own anchor names"),
        ("tier: !!python/name:os.getcwd x\n", "line 1, column 7: the tag !!python/name:os.getcwd is not read here"),
        ("tier: quick\nflags: 0\ntier: standard\n", "tier is there twice"),
        ("tier: [1, 2\n", "line 2, column 1: expected ',' or ']', but got"),
        ("tier: 2026-13-45\n", "month must be in 1..12"),
        ("tier: \x00\n", "character 7: is none of UTF-8 text"),
        (b"tier: \xff\n", "character 7: is none of UTF-8 text"),
        ("? [a]\n: 1\n", "line 1, column 3: found unhashable key"),
        ("[" * 5000, "line 1, column 51: is nested deeper than 50 levels"),
        ("{a: " * 200, "line 1, column 198: is nested deeper than 50 levels"),
        ("~: a\n~: b\n", "line 2, column 1: ~ is there twice"),
        ("1: a\n1.0: b\n", "line 2, column 1: 1.0 is there twice"),
        ("a: {b: {c: 1, c: 2}}\n", "line 1, column 15: c is there twice"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", "line 2, column 13: << is there twice"),
        (f"a: {'9' * 5000}\n", "line 1, column 4: 99999999999999999999… is a whole number of more than 64 bits"),
        ("a: 18446744073709551616\n", "line 1, column 4: 18446744073709551616 is a whole number of more than 64 bits"),
        (f"a: 0x{'f' * 17}\n", "is a whole number of more than 64 bits"),
        (f"a: 1{':59' * 30}\n", "is a whole number of more than 64 bits"),
        ("a: 0x_\n", "line 1, column 4: 0x_ is no whole number"),
        ('a: "b\\0"\n', "line 1, column 4: has a character that no text holds"),
        ('a: "\\ud800"\n', "line 1, column 4: has a character that no text holds"),
        ("a" * 1_000_001, "is longer than 1,000,000 bytes"),
        (f"[{'1,' * 30_000}]", "has more than 20,000 values, aliases written out"),
    ],
)
def test_what_is_wrong_is_one_sentence_of_our_own(text: str | bytes, sentence: str) -> None:
    with pytest.raises(YamlError) as refused:
        load(text)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value) and "string>" not in str(refused.value)


@pytest.mark.parametrize("text", ["signed_by: [*.pub]\n", "tier: *quick\n", "tier: 2026-13-45\n", "a: 1\na: 2\n"])
def test_policies_settings_and_plans_say_the_same(text: str, tmp_path: Path) -> None:
    plan = pytest.importorskip("pipeline.experiments.plan")
    params = pytest.importorskip("pipeline.resolve")
    (tmp_path / "file.yaml").write_text(text)
    readers: list[Callable[[Path], Any]] = [read_policy, params.load_params, plan.load_plan]
    with pytest.raises(YamlError) as meant:
        load(text)
    for reader in readers:
        with pytest.raises(HallmarkError, match=f"file.yaml: .*: {re.escape(str(meant.value))}$"):
            reader(tmp_path / "file.yaml")


def nested_aliases(begin: str, line: str, count: int) -> str:
    """Each line names the one before nine times."""
    names = [begin, *(f"n{number}: &n{number} {line}" for number in range(1, count))]
    return "\n".join(text.replace("BEFORE", ", ".join([f"*n{number - 1}"] * 9)) for number, text in enumerate(names))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (nested_aliases("n0: &n0 [x]", "[BEFORE]", 10), "has more than 20,000 values"),
        (nested_aliases("n0: &n0 {k: x}", "{<<: [BEFORE]}", 10), "has more than 20,000 values"),
        ("n0: &n0 [x]\n" + "".join(f"n{i}: &n{i} [*n{i - 1}]\n" for i in range(1, 3000)), "is nested deeper than 50"),
    ],
    ids=["lists", "merged mappings", "a chain"],
)
def test_a_few_lines_that_stand_for_gigabytes_are_refused_before_they_are_written_out(text: str, limit: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(YamlError, match=limit):
            load(text)
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


def test_as_many_values_as_are_allowed_are_read() -> None:
    assert len(load("".join(f"k{number}: {number}\n" for number in range(9_990)))) == 9_990
    assert load(f"a: {2**64 - 1}\nb: {-(2**63)}\n") == {"a": 2**64 - 1, "b": -(2**63)}
    assert load("[" * 50 + "]" * 50) is not None


def test_a_file_that_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(YamlError, match="is longer than 1,000,000 bytes"):
        read(Path("/dev/zero"))
