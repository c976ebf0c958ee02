"""YAML of version 1.2, and what is wrong with it in our own words, wherever it is read: settings, plans, policies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import HallmarkError
from bundle.gate.reading import read_policy
from bundle.yaml12 import YamlError, load

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
        ("[" * 5000, "recursion"),
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
    params = pytest.importorskip("pipeline.params")
    (tmp_path / "file.yaml").write_text(text)
    readers: list[Callable[[Path], Any]] = [read_policy, params.load_params, plan.load_plan]
    with pytest.raises(YamlError) as meant:
        load(text)
    for reader in readers:
        with pytest.raises(HallmarkError, match=f"file.yaml: .*: {re.escape(str(meant.value))}$"):
            reader(tmp_path / "file.yaml")
