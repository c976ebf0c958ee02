"""A real command in a child process within limits, and what it said, wrote and took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

#: A small process between: what a child is said to have taken begins with what its parent had.
LAUNCHER = """
import json, os, resource, sys
most = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
child = os.posix_spawn(sys.argv[3], sys.argv[3:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), usage.ru_maxrss >> 10], report)
"""
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
    said, report, started = folder.parent / "said.txt", folder.parent / "report.json", time.monotonic()
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
    launched = [sys.executable, "-S", "-E", "-c", LAUNCHER, str(report), str(FILE_BYTES), *command]
    with said.open("wb") as errors:
        process = subprocess.Popen(
            launched, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )
        guard = Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        guard.start()
        process.wait()
        guard.cancel()
    code, mebibytes = json.loads(report.read_text()) if report.exists() else (-signal.SIGKILL, 0)
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    after = _state(folder)
    written = sorted(name for name, stamp in after.items() if before.get(name) != stamp)
    return Outcome(
        code,
        tuple(line for line in lines if line.strip()),
        tuple(name for name in written if not name.endswith(ALLOWED) and not name.startswith(allowed or ("\0",))),
        mebibytes,
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
