"""A full disk cuts off no compiled code, which CPython would keep and fail to read for good.

A stage does not outlive the dvc that runs it; one that a person started outlives its shell.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundle import process
from bundle.process import SPARE, spare_full_disk


@pytest.mark.parametrize(("free", "written"), [(8192, False), (SPARE, True)])
def test_no_compiled_code_is_written_to_a_disk_that_is_nearly_full(
    monkeypatch: pytest.MonkeyPatch, free: int, written: bool
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    spare_full_disk()
    assert sys.dont_write_bytecode is not written


def test_what_is_compiled_fits_many_times() -> None:
    code = Path(process.__file__).parents[1]
    rooms = ("audit", "bundle", "pipeline", "serving")
    assert sum(path.stat().st_size for room in rooms for path in (code / room).rglob("*.py")) * 4 < SPARE


ROOT = Path(__file__).parents[2]
#: In place of dvc: starts a stage's process, says its number, waits.
PARENT = """
import subprocess, sys, time
stage = "import time, pipeline; print('begun', flush=True); time.sleep(600)"
with subprocess.Popen([sys.executable, "-c", stage], stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_dvc(by_dvc: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    environment |= {"DVC_STAGE": "train"} if by_dvc else {}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    stage = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    try:
        assert bool(select.select([stage], [], [], 10 if by_dvc else 0.5)[0]) == by_dvc
    finally:
        if not by_dvc:
            signal.pidfd_send_signal(stage, signal.SIGKILL)
        os.close(stage)
