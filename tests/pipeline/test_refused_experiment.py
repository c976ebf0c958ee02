"""A wrong word in `dvc exp run -S` costs nothing: the stage refuses it, and what earlier runs made is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle.digests import sha256_file
from tests.imports import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
WHO = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_deletes_no_output_before_a_stage_runs(stage: str) -> None:
    outputs: list[Any] = [*STAGES[stage].get("outs", []), *STAGES[stage].get("metrics", [])]
    assert outputs and all(isinstance(item, dict) for item in outputs)
    assert [name for item in outputs for name, options in item.items() if not options.get("persist")] == []


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **WHO, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_wrong_word_costs_no_output(tmp_path: Path) -> None:
    """The stage prepare as dvc.yaml has it, but for its code, on two dozen digits."""
    prepare = {key: value for key, value in STAGES["prepare"].items() if key != "deps"}
    prepare["cmd"] = f"{sys.executable} -m pipeline.prepare"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": prepare}}))
    (tmp_path / "params.yaml").write_text("data: {name: digits, train_images: 24}\nmethod: {name: pgd_at}\n")
    for command in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q")):
        assert run(tmp_path, *command).returncode == 0
    made = run(tmp_path, sys.executable, "-m", "dvc", "repro")
    assert made.returncode == 0, made.stdout + made.stderr
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "commit", "-qm", "made")
    before = {path: sha256_file(path) for path in sorted((tmp_path / "out" / "data").iterdir())}
    assert len(before) >= 4
    refused = run(tmp_path, sys.executable, "-m", "dvc", "exp", "run", "-S", "data.name=digts")
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "prepare: data.name: must be one of" in said, said
    assert "all that earlier runs made is as it was" in said
    assert before == {path: sha256_file(path) for path in sorted((tmp_path / "out" / "data").iterdir())}
