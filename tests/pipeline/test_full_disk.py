"""A disk that is full: each stage says so in one sentence, loses nothing, and goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from bundle.digests import write_whole
from bundle.errors import FullDiskError, sentence
from pipeline.stage import stage
from pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from tests.pipeline.published import make_published, small_params
from tests.pipeline.test_damaged import digests, refused

MEGABYTES = 24
STAGES = ("prepare", "train", "export", "attack", "certify", "attest")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def finished(disk: Path) -> Path:
    """On the small disk: a folder in which every stage has run once."""
    run, before = disk / "run", Path.cwd()
    run.mkdir()
    os.chdir(run)
    try:
        make_published(Path("out"))
        params = small_params().model_dump(by_alias=True)
        params["train"] |= {"epochs": 1}
        params["network"] |= {"width": 8}
        Path("params.yaml").write_text(yaml.safe_dump(params))
    finally:
        os.chdir(before)
    return run


@pytest.fixture
def filler(disk: Path) -> Iterator[Path]:
    yield disk / "filler"
    (disk / "filler").unlink(missing_ok=True)


def fill(filler: Path, *, leaving: int) -> None:
    """Takes all but so many bytes of the disk."""
    room = shutil.disk_usage(filler.parent).free - leaving
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_says_that_the_disk_is_full_and_goes_on_when_there_is_room(
    finished: Path, filler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A few small files still fit."""
    monkeypatch.chdir(finished)
    shutil.rmtree("checkpoints", ignore_errors=True)
    kept = digests(finished / "out")
    fill(filler, leaving=8192)
    said = refused(name, capsys)
    assert "cannot be written, the disk is full (" in said and " free)" in said, said
    assert digests(finished / "out") | kept == digests(finished / "out")  # what was there is there, to the byte
    assert not [path for path in (finished / "out").rglob(".*") if path.suffix != ".lock"]
    filler.unlink()
    monkeypatch.setattr("sys.argv", [name])
    with pytest.raises(SystemExit) as ended:
        stage(name, import_module(f"pipeline.{name}").main)
    assert ended.value.code == 0


def test_a_checkpoint_that_has_no_room_leaves_the_one_before(disk: Path, filler: Path) -> None:
    """torch wraps what its file raises in an error of its own, which does not say why."""
    import torch

    save_checkpoint(disk / "checkpoint", {"epoch": 1})
    fill(filler, leaving=100_000)
    with pytest.raises(FullDiskError, match=r"checkpoint\.pt: cannot be written, the disk is full"):
        save_checkpoint(disk / "checkpoint", {"epoch": 2, "weights": torch.zeros(100_000)})
    assert load_checkpoint(disk / "checkpoint") == {"epoch": 1}
    assert [path.name for path in (disk / "checkpoint").iterdir()] == ["checkpoint.pt"]


def test_the_sentence_names_the_file_and_both_sizes(disk: Path, filler: Path) -> None:
    fill(filler, leaving=0)
    with pytest.raises(FullDiskError) as refusal:
        write_whole(disk / "new" / "model.onnx", bytes(2_000_000))
    assert str(refusal.value) == (
        f"{disk}/new/model.onnx: cannot be written, the disk is full (2.00 MB to write, 0.00 MB free); make room and try "
        "again"
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "the disk is full; make room and try again"),
        (
            shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
            "the disk is full; make room and try again",
        ),
        (PermissionError(13, "Permission denied", "out/a.json"), "out/a.json: Permission denied"),
        (MemoryError(), "there is not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "the input is nested too deeply"),
        (KeyError("a fault of the code"), None),
    ],
)
def test_what_the_system_refuses_is_a_sentence(error: Exception, said: str | None) -> None:
    assert sentence(error) == said
