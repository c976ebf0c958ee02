"""The boundary of every command: what is refused and what the machine lacks is one sentence; a fault of the code is not."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from bundle.errors import HallmarkError
from pipeline import compare, evaluate, reattack
from pipeline.experiments.__main__ import main as experiments
from pipeline.stage import outcome, print_shares


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended, outcome("train"):
        raise error
    assert ended.value.code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (HallmarkError("a: must be b"), "a: must be b"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out/data"), "out/data: Is a directory"),
        (OSError(errno.EIO, "Input/output error"), "a file: Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room and try again"),
        (MemoryError("Unable to allocate 3 GiB"), "there is not enough memory (Unable to allocate 3 GiB)"),
        (RecursionError("maximum recursion depth exceeded"), "the input is nested too deeply"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "there is not enough memory (CUDA out of memory. Tried)"),
        *(
            (error, f"there is not enough memory ({error}); a smaller network, image or batch takes less")
            for error in (
                RuntimeError("could not create a primitive"),
                RuntimeError("std::bad_alloc"),
                ImportError("libx.so: failed to map segment from shared object"),
            )
        ),
        (KeyboardInterrupt(), "stopped by hand"),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(
    error: BaseException, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(error, capsys)
    assert text.startswith(f"train: {sentence}") and "\n" not in text


def test_memory_that_torch_cannot_have_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), outcome("train"):
        torch.empty(2**60, dtype=torch.uint8)
    assert "train: there is not enough memory (" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("name"), RuntimeError("shapes differ"), AttributeError("x")])
def test_a_fault_of_the_code_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), outcome("train"):
        raise error


@pytest.mark.parametrize("content", ["", "[]", "{", '{"train": "long"}', "[" * 100_000])
def test_a_damaged_file_of_timings_stops_nothing(folder: Path, content: str) -> None:
    (folder / "out").mkdir()
    (folder / "out/timings.json").write_text(content)
    print_shares()


@pytest.mark.parametrize("command", ["compare", "results", "evaluate", "reattack"])
def test_every_command_has_the_boundary(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A folder where a file is meant, which none of them foresees."""
    place = folder / "place.yaml"
    place.mkdir()
    with pytest.raises(SystemExit) as ended:
        match command:
            case "compare":
                compare.main(plan=place, name="x", setting=None, against=None, workers=1, data_path="datasets")
            case "results":
                experiments(plan=place, budget=None, only=None)
            case "evaluate":
                evaluate.main("m:f", data="folder", path=str(place / "none"), image_size=0, certify=False)
            case _:
                reattack.main(place)
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.startswith(f"{command}: ") and error.count("\n") == 1, error
