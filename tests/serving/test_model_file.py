"""Model files that a service must not serve, though digests and claims agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from audit.private.withholding import make_private
from bundle.errors import HallmarkError
from bundle.layout import MODEL
from serving.served import open_checked
from serving.settings import Settings
from tests import models
from tests.audit.tampering import rewrite
from tests.bundles import make_bundle
from tests.serving.conftest import REPOSITORY, free_port


def serve(bundle: Path, where: Path) -> str:
    """What the command says when it refuses, from a working directory of its own."""
    command = [sys.executable, "-m", "serving", "--bundle", bundle, "--device", "cpu", "--port", free_port()]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize("kind", ["external", "endless", "constant", "by_batch"])
def test_the_command_refuses_it_in_one_sentence(kind: str, folders: Path, tmp_path: Path) -> None:
    """The file beside the process makes no difference."""
    external, weights = models.external()
    (tmp_path / "weights.bin").write_bytes(weights)
    made, said = {
        "external": (external, "model.onnx: keeps tensor 'weight' in another file, which no digest covers"),
        "endless": (models.endless(), "model.onnx: operator 'Loop' ('for ever') has a graph inside"),
        "constant": (models.constant(10**11), "model.onnx: operator 'ConstantOfShape' ('') makes a tensor of 1000"),
        "by_batch": (models.by_batch(), "self-check: 64 of the 64 closest verdicts differ on this host"),
    }[kind]
    bundle = shutil.copytree(folders / "bundle", tmp_path / "bundle")
    rewrite(bundle, files={MODEL: made.SerializeToString()})
    assert serve(bundle, tmp_path).startswith(said)


def test_without_images_a_batch_is_tried_with_noise(tmp_path: Path) -> None:
    source = make_bundle(tmp_path / "source", rows=20, tier="quick")
    rewrite(source, files={MODEL: models.by_batch().SerializeToString()})
    make_private(source, tmp_path / "made", tmp_path / "own", bytes(32))
    settings = Settings(bundle=tmp_path / "made", threads=1, device="cpu", self_check="if-possible")
    with pytest.raises(HallmarkError, match=r"^self-check: 64 of 64 images of noise are answered otherwise alone"):
        open_checked(replace(settings, releases=tmp_path / "none"))
