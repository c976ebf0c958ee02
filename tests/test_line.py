"""The whole line under real DVC, in a fresh folder whose name has spaces: few images, a narrow network, quick."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from bundle.bundle import open_bundle
from bundle.digests import sha256_file
from bundle.layout import REQUIRED
from pipeline.evaluation.from_bundle import open_published
from tests.pipeline.certification.networks import own_labels
from tests.pipeline.certification.soundness import assert_sound

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "data": {"name": "digits", "path": "datasets", "train_images": 200, "test_images": 60},
    "network": {"name": None, "width": 8, "guide_width": 8},
    "train": {"schedule": None, "epochs": 2},
    "attack": {"tier": "quick", "images": 20},
    "certify": {"sigma": 0.25, "selection": 10, "estimation": 50},
}


def fresh_copy(folder: Path, changes: Mapping[str, object] = SMALL) -> Path:
    """A new repository with the tracked and new files of this one, and sections of params.yaml changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("out/", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if changes:
        params = yaml.safe_load((folder / "params.yaml").read_text())
        (folder / "params.yaml").write_text(yaml.safe_dump({**params, **changes}, sort_keys=False))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def run(folder: Path, *command: str, code: int = 0) -> str:
    """Runs a Python module in `folder` as a user would, and returns what it printed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DVC"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fresh_copy(tmp_path_factory.mktemp("a folder with spaces") / "the line")
    run(folder, "dvc", "repro")
    return folder


def test_repro_ends_in_a_bundle_that_verifies(line: Path) -> None:
    bundle = open_bundle(line / "out" / "bundle")
    claims = {(claim.get("attack"), claim["setting"]) for claim in bundle.predicate["claims"]}
    assert {("all", "served"), ("all", "reference"), ("pgd-50", "served"), ("margin", "reference")} <= claims
    assert bundle.predicate["method"]["name"] == "d2r_cag"
    assert bundle.predicate["testReads"]["models"] == 1
    assert len(bundle.outcomes) == 20
    assert str(line) not in (line / "out/bundle/attestation.json").read_text()


def test_no_image_of_the_line_is_proved_and_broken(line: Path) -> None:
    published = open_published(line / "out" / "bundle")
    images = published.bundle.images["clean"][:4]
    assert_sound(published.network, images, own_labels(published.network, images).numpy())


def test_second_repro_does_nothing(line: Path) -> None:
    assert "Data and pipelines are up to date." in run(line, "dvc", "repro")


def test_another_folder_gives_the_same_model_and_attestation(line: Path, tmp_path: Path) -> None:
    other = fresh_copy(tmp_path / "elsewhere")
    for stage in ("prepare", "train", "export", "attack", "certify", "attest"):
        run(other, f"pipeline.{stage}")
    for name in REQUIRED:
        assert sha256_file(other / "out/bundle" / name) == sha256_file(line / "out/bundle" / name), name


@pytest.mark.parametrize(
    ("section", "key", "value", "changed", "kept"),
    [
        ("attack", "images", 10, {"attack"}, {"prepare", "train", "export"}),
        ("certify", "sigma", 0.5, {"certify"}, {"prepare", "train", "export", "attack"}),
        ("method", "alpha", 3.0, {"train"}, {"prepare"}),
        ("data", "seed", 1, {"prepare"}, set()),
    ],
)
def test_a_parameter_concerns_its_own_stages(
    line: Path, section: str, key: str, value: object, changed: set[str], kept: set[str]
) -> None:
    before = (line / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params[section][key] = value
    (line / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    try:
        status = set(json.loads(run(line, "dvc", "status", "--json")))
    finally:
        (line / "params.yaml").write_text(before)
    assert changed <= status
    assert not kept & status


def test_code_concerns_the_stages_that_use_it(line: Path) -> None:
    source = line / "pipeline" / "certification" / "smoothed.py"
    before = source.read_text()
    source.write_text(before + "\n# changed\n")
    try:
        status = set(json.loads(run(line, "dvc", "status", "--json")))
    finally:
        source.write_text(before)
    assert {"certify", "attest"} <= status
    assert not {"prepare", "train", "export", "attack"} & status


def test_an_experiment_needs_no_more_than_its_settings(line: Path) -> None:
    before = sha256_file(line / "out/model.onnx")
    run(line, "dvc", "exp", "run", "-n", "regmix-gamma", "-S", "method.name=regmix", "-S", "+method.gamma=2")
    attested = json.loads((line / "out/bundle/attestation.json").read_text())["predicate"]
    assert attested["method"]["settings"]["gamma"] == 2
    assert attested["method"]["reconstructed"] is True
    assert attested["testReads"]["models"] == 2
    assert sha256_file(line / "out/model.onnx") != before
    assert "regmix-gamma" in run(line, "dvc", "exp", "show", "--csv")
    shown = run(line, "dvc", "metrics", "show").split()
    assert {"clean", "robust", "robust_reference", "certified_l2", "proved_median_255", "flags"} <= {*shown}
    run(line, "dvc", "plots", "show", "-o", "plots")
    assert "certified_accuracy" in (line / "plots/index.html").read_text()


def test_a_wrong_value_is_one_sentence_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{data: {name: digits}, method: {name: d2r_cat}}")
    said = run(tmp_path, "pipeline.prepare", code=1)
    assert said.startswith("prepare: method.name: must be one of") and "did you mean d2r_cag?" in said
    assert "Traceback" not in said and not (tmp_path / "out").exists()
