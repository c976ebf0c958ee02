"""What `make chaos` judges by: it sees an orphan, a leftover, a changed file and a traceback. The runs are its own command."""

from __future__ import annotations

import fcntl
import signal
from pathlib import Path

import pytest

from tests.chaos import commands
from tests.chaos.commands import SIGNALS, Command, Ended, Fault, outliving
from tests.chaos.folders import digests, names, require_kept, require_nothing_left, require_same
from tests.chaos.runs import is_held
from tests.chaos.table import Row, markdown, row

SLEEP = "import time; print('begun', flush=True); time.sleep(600)"
#: Leaves a child that holds nothing of it open.
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"


def command(folder: Path, code: str) -> Command:
    return Command(("-c", code), folder, home=folder / "home")


@pytest.mark.parametrize("way", SIGNALS)
def test_a_command_is_ended_where_it_still_runs(tmp_path: Path, way: str) -> None:
    running = command(tmp_path, SLEEP).start()
    assert running.end_after(0.3, way)
    assert running.wait().code != 0 and outliving(running.process.pid, 0) == []
    assert not command(tmp_path, "").start().end_after(60, way)


def test_an_orphan_is_seen_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "outliving", lambda number: outliving(number, 0.2))
    running = command(tmp_path, ORPHAN).start()
    assert running.end_after(0.5, "SIGTERM")
    with pytest.raises(Fault, match="left processes"):
        running.wait()
    assert outliving(running.process.pid, 5) == []


def test_another_exit_code_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="exit 3 in place of 0"):
        command(tmp_path, "raise SystemExit(3)").run()


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (1, "begun\nthe disk is full\n", "the disk is full"),
        (1, "Traceback (most recent call last):\nthe disk is full", None),
        (0, "done", None),
        (-signal.SIGSEGV, "", None),
    ],
)
def test_a_refusal_is_one_sentence(code: int, said: str, sentence: str | None) -> None:
    if sentence is None:
        with pytest.raises(Fault, match="no sentence"):
            Ended(code, said, 0).sentence()
    else:
        assert Ended(code, said, 0).sentence() == sentence


def test_what_is_left_lost_or_changed_is_named(tmp_path: Path) -> None:
    calm, other = tmp_path / "calm", tmp_path / "other"
    for folder in (calm, other):
        (folder / ".git").mkdir(parents=True)
        (folder / "file").write_bytes(b"same")
    expected, before = names(calm), digests(other)
    require_same(other, calm, ["file"])
    (other / ".git" / "object").write_bytes(b"git's")
    require_nothing_left(names(other), expected)
    (other / ".file.part-abcdefgh").write_bytes(b"half")
    (other / "file").write_bytes(b"other")
    with pytest.raises(Fault, match=r"left behind: \.file\.part-abcdefgh"):
        require_nothing_left(names(other), expected)
    with pytest.raises(Fault, match="file: is another"):
        require_same(other, calm, ["file"])
    with pytest.raises(Fault, match="lost or changed: file"):
        require_kept(other, before)


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")


def test_a_fault_is_a_row_and_the_next_one_is_tried() -> None:
    rows: list[Row] = []
    with row(rows, "first"):
        raise Fault("broken")
    with row(rows, "second") as item:
        item.result = "well"
    assert [item.faults for item in rows] == [["broken"], []]
    assert "| first | 0 | 0 | **1 faults** | 0 |" in markdown(rows)
