"""A real command in a child process within limits, and what it said, wrote and took."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

#: A guard against hangs, not a measure: machines are busy.
SECONDS = 600
#: No file may grow beyond it; what a refused command writes is a lock at most.
FILE_BYTES = 64 << 20
#: What a command may leave where it refuses: the locks that keep a second run out, and compiled code.
ALLOWED = (".lock", ".pyc")


@dataclass(frozen=True)
class Outcome:
    """`said` are the lines on standard error, `written` new or changed files, `mebibytes` the child's largest memory."""

    code: int
    said: tuple[str, ...]
    written: tuple[str, ...]
    mebibytes: int
    seconds: float


def run(command: list[str], folder: Path, allowed: tuple[str, ...] = ()) -> Outcome:
    """Runs a command in a folder; names of files that it may write there may begin with one of `allowed`."""
    before = _state(folder)
    said, started = folder.parent / "said.txt", time.monotonic()
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
        "COLUMNS": "500",
    }
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES)),
        )
        guard = Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        guard.start()
        _, status, usage = os.wait4(process.pid, 0)
        guard.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    after = _state(folder)
    written = sorted(name for name, stamp in after.items() if before.get(name) != stamp)
    return Outcome(
        process.returncode,
        tuple(line for line in lines if line.strip()),
        tuple(name for name in written if not name.endswith(ALLOWED) and not name.startswith(allowed or ("\0",))),
        usage.ru_maxrss >> 10,
        time.monotonic() - started,
    )


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder; of a folder that is new, that it is there."""
    found: dict[str, tuple[int, int]] = {}
    for root, folders, files in os.walk(folder):
        for name in files:
            status = os.lstat(os.path.join(root, name))
            found[os.path.relpath(os.path.join(root, name), folder)] = status.st_size, status.st_mtime_ns
        for name in folders:
            if name == "ran":  # what the traps make
                found[os.path.relpath(os.path.join(root, name), folder)] = 0, 0
    return found
