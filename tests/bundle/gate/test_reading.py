"""Reading a policy: every wrong field is a sentence, and nothing that is asked for is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import HallmarkError
from bundle.gate.policy import NotWorse, Policy
from bundle.gate.reading import read_policy

GOOD = """
metrics:
  - {metric: clean_accuracy, setting: served, min: 0.8, at: lower}
  - {metric: robust_accuracy, setting: served, threat: linf-32, min: 0.3, max: 1}
tier: standard
flags: 0
reliable: true
not_worse: {margin: 2, first: pass}
signed_by: [keys/key.pub, %s]
test_reads: 20
leakage: {copies: 0, near_copies: 0.02}
selection: validation
sample: 50
""" % ("a" * 64)
METRIC = {"metric": "clean_accuracy", "setting": "served", "min": 0.5}


def read(folder: Path, content: str, name: str = "policy.yaml") -> Policy:
    (folder / name).write_text(content)
    return read_policy(folder / name)


def refusal(folder: Path, document: Any) -> str:
    with pytest.raises(HallmarkError) as refused:
        read(folder, json.dumps(document), "policy.json")
    return str(refused.value)


def test_every_field_arrives(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    clean, robust = found.metrics
    assert (clean.metric, clean.keys, clean.minimum, clean.maximum) == (
        "clean_accuracy",
        {"setting": "served"},
        0.8,
        None,
    )
    assert (clean.end, robust.end, robust.maximum) == ("lower", "value", 1)
    assert robust.keys == {"setting": "served", "threat": "linf-32", "attack": "all"}
    assert (found.tier, found.flags, found.reliable, found.selection) == ("standard", 0, True, "validation")
    assert found.not_worse == [NotWorse(0.02, first=True)]
    assert (found.test_reads, found.sample) == (20, 50)
    assert found.leakage == {"copies": 0, "near_copies": 0.02}
    assert (found.key_ids, found.key_files) == (["a" * 64], [tmp_path / "keys/key.pub"])


def test_json_says_the_same_as_yaml(tmp_path: Path) -> None:
    document = {"metrics": [METRIC], "tier": "quick", "not_worse": [{"margin": 1e-1}]}
    found = read(tmp_path, json.dumps(document), "policy.json")
    same = read(
        tmp_path,
        "metrics: {metric: clean_accuracy, setting: served, min: 0.5}\ntier: quick\nnot_worse: {margin: 0.1}\n",
    )
    assert (found.metrics, found.tier, found.not_worse) == (same.metrics, same.tier, same.not_worse)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"teir": "quick"}, "teir: is no field, did you mean tier?"),
        ({"tier": "best"}, "tier: must be quick, standard or thorough, is 'best'"),
        ({"tier": None}, "tier: must be quick, standard or thorough, is not there"),
        ({"flags": -1}, "flags: must be the largest number of flags, 0 for none, is -1"),
        ({"flags": True}, "flags: must be the largest number of flags"),
        ({"reliable": False}, "reliable: must be true, is False"),
        ({"test_reads": 0}, "test_reads: must be the largest number of models"),
        ({"selection": "test"}, "selection: must be validation, is 'test'"),
        ({"sample": 1.5}, "sample: must be the smallest number of images"),
        ({"metrics": []}, "metrics: must be a list of rules"),
        ({"metrics": "clean"}, "metrics: must be a list of rules"),
        ({"metrics": [{**METRIC, "metric": "accuracy"}]}, "metrics[0].metric: must be one of clean_accuracy, "),
        ({"metrics": [{**METRIC, "minn": 0.5}]}, "metrics[0].minn: is no field, did you mean min?"),
        ({"metrics": [{**METRIC, "setting": "onnx"}]}, "metrics[0].setting: must be reference or served, is 'onnx'"),
        ({"metrics": [{**METRIC, "threat": "linf-8"}]}, "metrics[0].threat: is no key of clean_accuracy"),
        ({"metrics": [{**METRIC, "min": "0.5"}]}, "metrics[0].min: must be a number, fractions as 0 to 1, is '0.5'"),
        ({"metrics": [{**METRIC, "min": float("nan")}]}, "metrics[0].min: must be a number"),
        ({"metrics": [{**METRIC, "at": "middle"}]}, "metrics[0].at: must be value, lower or upper, is 'middle'"),
        ({"metrics": [METRIC, {"metric": "clean_accuracy", "setting": "served"}]}, "metrics[1]: asks for nothing"),
        (
            {"metrics": [{"metric": "robust_accuracy", "setting": "served", "min": 0}]},
            "metrics[0].threat: is missing, robust_accuracy is keyed",
        ),
        (
            {"metrics": [{"metric": "calibration_error", "setting": "served", "max": 5}]},
            "metrics[0].max: must be a fraction from 0 to 1, 0.05 for 5 %, is 5",
        ),
        (
            {"metrics": [{**METRIC, "min": 97.0}]},
            "metrics[0].min: must be a fraction from 0 to 1, 0.05 for 5 %, is 97.0",
        ),
        ({"metrics": [{**METRIC, "min": -0.1}]}, "metrics[0].min: must be a fraction from 0 to 1"),
        (
            {"metrics": [{"metric": "minimum_distance", "name": "cw", "quantile": 50, "min": -1}]},
            "metrics[0].min: must be 0 or more, is -1",
        ),
        ({"metrics": [{**METRIC, "max": 0.4}]}, "metrics[0]: min 0.5 lies above max 0.4, so that no number can meet"),
        ({"leakage": 0.1}, "leakage: must be fractions by name: copies, near_copies and two_labels"),
        ({"leakage": {"copys": 0}}, "leakage.copys: is no field, did you mean copies?"),
        ({"leakage": {"two_labels": 2}}, "leakage.two_labels: must be a fraction of images, 0 to 1, is 2"),
        ({"not_worse": 2}, "not_worse: must be a list of rules"),
        ({"not_worse": {"margin": 0}}, "not_worse[0].margin: must be points above 0, 2 for 2 %, is 0"),
        ({"not_worse": {"margin": 2, "first": True}}, "not_worse[0].first: must be pass or fail, is True"),
        (
            {"not_worse": {"margin": 2, "metric": "calibration_error"}},
            "not_worse[0].metric: must be robust_accuracy or",
        ),
        ({"signed_by": []}, "signed_by: must be a list of key.pub files and key ids"),
        ({"signed_by": [1]}, "signed_by: must be a list of key.pub files and key ids"),
        ({}, "must be a policy, fields with what they ask for"),
        ([METRIC], "must be a policy, fields with what they ask for"),
    ],
)
def test_a_wrong_field_is_one_sentence(document: Any, sentence: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, document)
    assert said.startswith(f"{tmp_path / 'policy.json'}: ")
    assert sentence in said
    assert "; " not in said


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"tier": "best", "flags": "no", "metrics": [{**METRIC, "at": 1}]})
    assert all(f" {name}: must be" in said for name in ("tier", "flags", "metrics[0].at"))


def test_counts_and_distances_are_no_shares(tmp_path: Path) -> None:
    """Images lost on the grid, an l2 distance and an l2 radius may be above 1."""
    asked = (
        "{metric: lost_on_grid, threat: linf-8, attack: margin, max: 3}",
        "{metric: minimum_distance, name: cw, quantile: 50, min: 1.5}",
        "{metric: average_certified_radius, classifier: smoothed-1, min: 1.2}",
    )
    found = read(tmp_path, f"metrics: [{', '.join(asked)}]\n").metrics
    assert [(item.minimum, item.maximum) for item in found] == [(None, 3), (1.5, None), (1.2, None)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("policy.yaml", "tier: thorough\nflags: 0\ntier: quick\n"),
        ("policy.json", '{"tier": "thorough", "tier": "quick"}'),
        ("policy.yaml", "metrics: [{metric: clean_accuracy, setting: served, min: 0.9, min: 0.1}]"),
    ],
)
def test_a_repeated_field_is_refused(name: str, content: str, tmp_path: Path) -> None:
    """Of two thresholds the parser would keep the last, and a reader may see the first."""
    with pytest.raises(HallmarkError, match=r"cannot be read as a policy: .*(tier|min) is there twice"):
        read(tmp_path, content, name)


@pytest.mark.parametrize(
    "content", ["tier: [", "!!python/object/apply:os.getcwd []", "? [a]\n: 1\n", "\x00", "tier: &a [*a]"]
)
def test_what_is_no_policy_is_one_line(content: str, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError) as refused:
        read(tmp_path, content)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match=r"absent\.yaml: cannot be read as a policy"):
        read_policy(tmp_path / "absent.yaml")
