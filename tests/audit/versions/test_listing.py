"""`hallmark versions`: AutoAttack, bounds, what is unreliable; and bundles in BentoML's model store, read as folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.versions.find import Place, Version, autoattack, find_version, list_versions, open_version
from audit.versions.tables import print_versions
from bundle.bundle import open_bundle
from bundle.layout import CARD
from bundle.pages.headline import store_name
from tests.audit.conftest import Masters
from tests.audit.versions.test_versions import git


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    return tmp_path / "work"


@pytest.fixture
def predicate(masters: Masters) -> dict[str, Any]:
    return dict(open_bundle(masters.unsigned).predicate)


def listed(masters: Masters, predicate: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    statement = {**open_bundle(masters.unsigned).statement, "predicate": predicate}
    print_versions([Version((Place("tag", "v1"),), "0" * 64, statement)])
    return capsys.readouterr().out


def put(masters: Masters, store: Path, tag: str) -> Path:
    """A bundle as BentoML keeps one, laid down without BentoML."""
    target = store / tag.replace(":", "/")
    shutil.copytree(masters.signed, target / "bundle")
    (target / "model.yaml").write_text("name: x\n")
    (target.parent / "latest").write_text(tag.partition(":")[2])
    return target / "bundle"


def test_autoattack_stands_beside_all_attacks_in_both_settings(
    masters: Masters, predicate: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert autoattack(predicate) is None
    attack = {**predicate["attacks"][-1], "name": "autoattack"}
    keys = {"metric": "robust_accuracy", "threat": "linf-32", "attack": "autoattack"}
    claims = [
        {**keys, "setting": setting, "value": value, "interval": [0.1, 0.2], "correct": 9, "sampleSize": 60}
        for setting, value in (("served", 0.123), ("reference", 0.456))
    ]
    changed = {**predicate, "attacks": [*predicate["attacks"], attack], "claims": [*predicate["claims"], *claims]}
    found = autoattack(changed)
    assert found is not None
    assert (found["attack"], found["served"]["value"], found["reference"]["value"]) == ("autoattack", 0.123, 0.456)
    lines = listed(masters, changed, capsys).splitlines()
    served, reference = (next(line for line in lines if f" {name} " in line) for name in ("served", "reference"))
    assert "12.3 % [10.0, 20.0]" in served and "45.6 % [10.0, 20.0]" in reference


def test_what_is_unreliable_stands_out(
    masters: Masters, predicate: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "UNRELIABLE" not in listed(masters, predicate, capsys)
    failed = [{**predicate["sanity"][0], "outcome": "fail", "passed": False}]
    text = listed(masters, {**predicate, "sanity": failed, "reliable": False}, capsys)
    assert "UNRELIABLE" in text


def test_bounds_of_the_served_classifier_are_told_from_the_smoothed_ones(
    masters: Masters, predicate: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bound = {"metric": "certified_accuracy", "classifier": "served", "norm": "linf", "technique": "IBP", "correct": 50}
    proofs = [
        {**bound, "eps_255": eps, "value": value, "sampleSize": 60, "interval": [0.7, 0.9]}
        for eps, value in ((8.0, 0.9), (32.0, 0.834))
    ]
    text = listed(masters, {**predicate, "bounds": [*predicate["bounds"], *proofs]}, capsys)
    assert "83.4 % [70.0, 90.0]" in text and "served, linf 32/255" in text and "smoothed-0.25, l2 0.5" in text
    assert "90.0 %" not in text.replace("90.0]", "")


def test_the_model_store_is_read_by_its_folders(masters: Masters, model_store: Path) -> None:
    assert list_versions() == []
    put(masters, model_store, "hallmark-digits-x:abc")
    (model_store / "another" / "1").mkdir(parents=True)
    (model_store / "another" / "1" / "model.yaml").write_text("name: another\n")
    (found,) = list_versions(trusted=[masters.trusted / "key.pub"])
    assert (str(found.places[0]), found.signature) == ("bentoml hallmark-digits-x:abc", "signed")
    assert find_version("hallmark-digits-x:abc", [found]) is found
    assert open_version("hallmark-digits-x:abc").path == model_store / "hallmark-digits-x" / "abc" / "bundle"


def test_a_changed_bundle_in_the_store_is_refused_by_name(masters: Masters, model_store: Path) -> None:
    (put(masters, model_store, "digits:1") / CARD).write_text("perfect\n")
    (found,) = json.loads(CliRunner().invoke(app, ["versions", "--json"]).stdout)["versions"]
    assert found["places"] == [{"kind": "bentoml", "name": "digits:1"}]
    assert found["refusal"].startswith(f"{CARD}: has ")


def test_a_version_is_opened_where_its_signature_is(masters: Masters) -> None:
    """The same attestation lies unsigned in out/bundle and signed in releases/: a gate must see the signed one."""
    shutil.copytree(masters.unsigned, "out/bundle")
    shutil.copytree(masters.signed, "releases/signed")
    assert open_version(open_bundle(masters.unsigned).version).envelope is not None


@pytest.mark.parametrize(
    ("data", "method", "name"),
    [("digits", "d2r_cag", "hallmark-digits-d2r_cag"), ("My Set/2", "Ünï", "hallmark-my-set-2--n")],
)
def test_a_name_in_the_store_is_one_that_bentoml_takes(data: str, method: str, name: str) -> None:
    assert store_name({"data": {"name": data}, "method": {"name": method}}) == name


def test_a_proof_without_its_challenge_is_wrong(masters: Masters) -> None:
    done = CliRunner().invoke(app, ["verify", str(masters.unsigned), "--proof", "proof.json"])
    assert (done.exit_code, "give both --proof and --challenge" in done.stderr) == (1, True)
