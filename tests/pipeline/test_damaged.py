"""Every input file of every stage, damaged in every way: one sentence that names it, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from bundle.digests import sha256_file
from pipeline.networks.serialisation import save_companions
from pipeline.stage import stage
from tests.pipeline import damage
from tests.pipeline.published import make_published, small_params

#: What each stage reads of what others leave below out/.
INPUTS = {
    "train": ("data/train.npz", "data/validation.npz", "data/manifest.json"),
    "export": ("data/manifest.json", "data/validation.npz", "train/network.json", "train/weights.safetensors"),
    "attack": (
        *("data/manifest.json", "data/test.npz", "train/network.json", "train/weights.safetensors"),
        *("train/companions.safetensors", "model.onnx"),
    ),
    "certify": (
        *("data/test.npz", "evidence/attacks.json", "evidence/outcomes.parquet"),
        *("train/network.json", "train/training.json", "train/weights.safetensors"),
    ),
    "attest": (
        *("certified/outcomes.parquet", "certified/smoothing.json", "data/manifest.json", "evidence/attacks.json"),
        *("evidence/images.npz", "evidence/outcomes.parquet", "model.onnx", "parity.json"),
        *("train/network.json", "train/training.json", "train/weights.safetensors"),
    ),
}
CASES = [(name, file) for name, files in INPUTS.items() for file in files]
#: Which files per stage can do without.
OPTIONAL = ("train/companions.safetensors",)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run once."""
    root, before = tmp_path_factory.mktemp("finished"), Path.cwd()
    os.chdir(root)
    try:
        make_published(Path("out"))
        save_companions(Path("out/train"), {}, {})
        Path("params.yaml").write_text(yaml.safe_dump(small_params().model_dump(by_alias=True)))
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def digests(root: Path) -> dict[Path, str]:
    """Every file but the locks, which hold nothing."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: sha256_file(path) for path in found}


def refused(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a stage ends."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr("sys.argv", [name])
        stage(name, import_module(f"pipeline.{name}").main)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith(f"{name}: ") and said.count("\n") == 1 and "Traceback" not in said, said
    return said


@pytest.mark.parametrize("way", damage.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("name", "file"), CASES, ids=map("/".join, CASES))
def test_a_damaged_input_is_named_in_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, way: Callable[[Path], None]
) -> None:
    if way is damage.missing and file in OPTIONAL:
        pytest.skip("no fault: a method need not have companions")
    way(folder / "out" / file)
    before = digests(folder)
    said = refused(name, capsys)
    assert Path(file).name in said and len(said) < 600, said
    assert digests(folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize(("name", "file"), CASES, ids=map("/".join, CASES))
def test_a_file_without_permission_is_named_in_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, file: str
) -> None:
    damage.no_permission(folder / "out" / file)
    assert f"{Path(file).name}" in refused(name, capsys)
