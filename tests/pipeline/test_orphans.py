"""A stage does not outlive the dvc that runs it; one that a person started outlives its shell."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
