"""`hallmark rerun` as an auditor meets it: what it needs, what it refuses, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.commands import audits as rerun_command
from tests.bundles import make_bundle

HALLMARK = Path(sys.executable).with_name("hallmark")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", rows=20, eps=(32,), tier="quick")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.mark.parametrize("missing", [("torch",), ("torch", "pyautoattack")])
def test_a_small_installation_says_what_it_lacks(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    there = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in missing else there(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr(rerun_command, "_run", lambda _: pytest.fail("nothing is started"))
    done = CliRunner().invoke(app, ["rerun", str(bundle)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and f"{', '.join(missing)} is not here" in done.stderr
    assert "pip install 'hallmark-robustness[pipeline]'" in done.stderr
    done = CliRunner().invoke(app, ["rerun", str(bundle), "--json"])
    assert done.exit_code == 1 and "training installation" in json.loads(done.stdout)["reason"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--sample", "0"],
        ["--sample", "x"],
        ["--seed", "-1"],
        ["--threads", "0"],
        ["--device", "tpu"],
        ["--nonsense"],
        ["a second bundle"],
    ],
)
def test_wrong_usage_is_exit_2(bundle: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str]) -> None:
    monkeypatch.setattr(rerun_command, "_run", lambda _: pytest.fail("nothing is started"))
    done = CliRunner().invoke(app, ["rerun", str(bundle), *wrong])
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert CliRunner().invoke(app, ["rerun"]).exit_code == 2


def test_every_option_reaches_the_command(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(rerun_command, "_run", lambda arguments: given.append(arguments) or 0)
    asked = "--sample 3 --seed 0 --threads 2 --device cpu --factory a:b --factory c:d --json"
    assert CliRunner().invoke(app, ["rerun", str(bundle), *asked.split()]).exit_code == 0
    assert CliRunner().invoke(app, ["rerun", str(bundle)]).exit_code == 0
    options = "--sample=3 --seed=0 --threads=2 --device=cpu --factory=a:b --factory=c:d --json --"
    assert given == [[*options.split(), str(bundle)], ["--device=auto", "--", str(bundle)]]


@pytest.mark.parametrize(("code", "ended"), [("raise SystemExit(1)", 1), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_it_ends_as_the_command_ends(bundle: Path, monkeypatch: pytest.MonkeyPatch, code: str, ended: int) -> None:
    monkeypatch.setattr(rerun_command, "COMMAND", ("-c", code))
    assert CliRunner().invoke(app, ["rerun", str(bundle)]).exit_code == ended


def test_a_bundle_that_does_not_verify_is_not_run(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun_command, "_run", lambda _: pytest.fail("nothing is started"))
    (bundle / "weights.safetensors").write_bytes(b"other")
    done = CliRunner().invoke(app, ["rerun", str(bundle)])
    assert done.exit_code == 1 and done.stderr.startswith("refused: weights.safetensors")


def test_code_that_lies_beside_a_bundle_is_not_run(bundle: Path) -> None:
    """Who sends a folder with a bundle may send a `pipeline` with it; and a network that nobody can build is a sentence."""
    planted = bundle.parent / "pipeline"
    planted.mkdir()
    for name in ("__init__.py", "rerun.py"):
        (planted / name).write_text("from pathlib import Path\nPath('ran').touch()\n")
    done = subprocess.run(
        [HALLMARK, "rerun", "bundle"],
        cwd=bundle.parent,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and not (bundle.parent / "ran").exists()
    assert done.stderr.startswith("rerun: ") and "network name: must be one of" in done.stderr
    assert done.stderr.count("\n") == 1
