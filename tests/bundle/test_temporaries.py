"""What a killed writer leaves is taken away by the next one, and never what a living one writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundle import temporaries
from bundle.digests import whole_folder, write_whole
from bundle.temporaries import temporary_file, temporary_folder

ROOT = Path(__file__).parents[2]
#: Stops in the middle of writing the file and the folder, and says so.
WRITER = """
import sys, time
from pathlib import Path
from bundle.digests import whole_folder, write_whole

def content(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)

folder = Path(sys.argv[1])
with whole_folder(folder / "made") as part:
    (part / "file").write_bytes(b"half")
    write_whole(folder / "file.npz", content)
"""


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has written half a file and half a folder."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def write_both(folder: Path) -> None:
    with whole_folder(folder / "made") as part:
        (part / "file").write_bytes(b"whole")
    write_whole(folder / "file.npz", b"whole")


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    with writer(tmp_path):
        pass
    assert len(os.listdir(tmp_path)) == 2
    write_both(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file.npz", "made"]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with writer(tmp_path):
        left = {*os.listdir(tmp_path)}
        write_both(tmp_path)
        assert len(left) == 2 and {*os.listdir(tmp_path)} == left | {"file.npz", "made"}


def test_only_temporary_files_of_the_same_target_are_taken_away(tmp_path: Path) -> None:
    """A person's hidden copies, and a link by which something elsewhere would be removed."""
    kept = {".file.npz.original.npz", ".file.npz.bak", ".another.part-abcdefgh.npz", "elsewhere"}
    for name in kept:
        (tmp_path / name).mkdir() if name == "elsewhere" else (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "elsewhere" / "file").write_bytes(b"mine")
    (tmp_path / ".file.npz.part-link").symlink_to("elsewhere")
    (tmp_path / ".file.npz.part-left").mkdir()
    os.mkfifo(tmp_path / ".file.npz.part-pipe")
    write_whole(tmp_path / "file.npz", b"whole")
    assert {*os.listdir(tmp_path)} == kept | {".file.npz.part-link", "file.npz"}
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"mine"


def test_what_is_swept_away_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, swept = temporaries.tempfile.mkstemp, list[str]()

    def mkstemp(**options: object) -> tuple[int, str]:
        handle, name = original(**options)  # type: ignore[call-overload]
        if not swept:
            swept.append(name)
            write_whole(tmp_path / "file", b"another's")
        return handle, name

    monkeypatch.setattr(temporaries.tempfile, "mkstemp", mkstemp)
    with temporary_file(tmp_path, "file") as path:
        assert swept and swept != [str(path)] and sorted(os.listdir(tmp_path)) == [path.name, "file"]
    assert os.listdir(tmp_path) == ["file"]


def test_writers_of_one_file_at_once_do_not_disturb_one_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write_whole, tmp_path / "file", bytes([number])) for number in range(200)]:
            done.result()
    assert os.listdir(tmp_path) == ["file"]


def test_without_locks_nothing_is_swept_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none of this kind."""
    monkeypatch.setattr(temporaries, "fcntl", None)
    (tmp_path / ".file.part-left").write_bytes(b"half")
    with temporary_folder(tmp_path, "made"):
        write_whole(tmp_path / "file", b"whole")
    assert sorted(os.listdir(tmp_path)) == [".file.part-left", "file"]
