"""The JSON Schemas for editors: current, named by the files' first lines, and of one mind with the commands' own rules."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from bundle.errors import HallmarkError
from bundle.gate.reading import read_policy
from docs.build_schema import schemas
from pipeline.methods import method_names
from pipeline.resolve import complete, load_params

ROOT = Path(__file__).parents[1]
FILES = {"params.schema.json": ROOT / "params.yaml", "policy.schema.json": ROOT / "docs" / "policy.yaml"}
DOCUMENTS: dict[str, Any] = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "docs" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", FILES)
def test_the_published_schema_is_current(name: str) -> None:
    """`python -m docs.build_schema` writes it again."""
    assert json.loads((ROOT / "docs" / name).read_text(encoding="utf-8")) == schemas(ROOT / "docs")[name]


@pytest.mark.parametrize("name", FILES)
def test_the_files_first_line_names_its_schema(name: str) -> None:
    first = FILES[name].read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named and (FILES[name].parent / named[1]).resolve() == ROOT / "docs" / name


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_valid(name: str) -> None:
    Draft202012Validator.check_schema(validator(name).schema)
    assert [error.message for error in validator(name).iter_errors(DOCUMENTS[name])] == []


@pytest.mark.parametrize("method", method_names())
def test_every_methods_completed_settings_are_valid(method: str) -> None:
    completed = complete({"data": {"name": "cifar10"}, "method": {"name": method}}).model_dump()
    assert [error.message for error in validator("params.schema.json").iter_errors(completed)] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("data", "nam"), "digits"),
        (("data", "name"), "digit"),
        (("method", "name"), "d2r_gac"),
        (("method", "gama"), 2),
        (("network", "name"), "resnet81"),
        (("train", "epochs"), 0),
        (("network", "width"), 12),
        (("threads",), 1000),
    ],
)
def test_what_the_stages_refuse_of_params_is_marked(place: tuple[str, ...], value: object, tmp_path: Path) -> None:
    document = changed("params.schema.json", place, value)
    (tmp_path / "params.yaml").write_text(json.dumps(document))
    with pytest.raises(HallmarkError):
        load_params(tmp_path / "params.yaml")
    assert not validator("params.schema.json").is_valid(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("tire",), "standard"),
        (("tier",), "hard"),
        (("flags",), -1),
        (("sample",), 0),
        (("reliable",), False),
        (("leakage", "copies"), 5),
        (("not_worse", "margin"), 0),
        (("metrics",), [{"metric": "clean_accuracy", "min": 0.5}]),
        (("metrics",), [{"metric": "clean_accuracy", "setting": "served"}]),
        (("metrics",), [{"metric": "clean_accuracy", "setting": "served", "min": 60}]),
        (("metrics",), [{"metric": "clean_accuracy", "setting": "served", "threat": "linf-8", "min": 0.5}]),
        (("signed_by",), []),
    ],
)
def test_what_the_gate_refuses_of_a_policy_is_marked(place: tuple[str, ...], value: object, tmp_path: Path) -> None:
    document = changed("policy.schema.json", place, value)
    (tmp_path / "policy.json").write_text(json.dumps(document))
    with pytest.raises(HallmarkError):
        read_policy(tmp_path / "policy.json")
    assert not validator("policy.schema.json").is_valid(document)


def changed(name: str, place: tuple[str, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENTS[name])
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return document
