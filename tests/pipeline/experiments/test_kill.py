"""`make results` killed by SIGKILL in training and in evaluation ends with the same result as undisturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipeline.experiments.samples import small, write_plan

ROOT = Path(__file__).resolve().parents[3]
#: A machine that rents a GPU by the hour may have none of these.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys(('dvc', 'dvclive', 'bentoml', 'dvc.api')))\n"
START = (
    "import runpy; sys.argv[0] = 'pipeline.experiments'; runpy.run_module('pipeline.experiments', run_name='__main__')"
)
ENTRY = small("small", images=40, shard=4, settings={"train.epochs": 12, "method.name": "regmix"})


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The command on the folder's plan, its output in the folder's file `said`."""
    folder.mkdir(exist_ok=True)
    write_plan(folder / "plan.yaml", ENTRY)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT + START, "--plan", "plan.yaml", "--budget", "10m"],
        cwd=folder,
        env=environment,
        stdout=(folder / "said").open("ab"),
        stderr=subprocess.STDOUT,
    )


def kill_when(folder: Path, reached: Callable[[], bool]) -> None:
    process = start(folder)
    deadline = time.monotonic() + 60
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (folder / "said").read_text()


def finish(folder: Path) -> dict[str, Any]:
    process = start(folder)
    assert process.wait(120) == 0, (folder / "said").read_text()
    return json.loads((folder / "results" / "digits" / "small-0.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finish(tmp_path_factory.mktemp("undisturbed"))


def test_killed_in_training_and_in_evaluation_it_ends_the_same(tmp_path: Path, undisturbed: dict[str, Any]):
    folder = tmp_path / "killed"
    kill_when(folder, lambda: (folder / "said").exists() and "epoch 2/12" in (folder / "said").read_text())
    assert not (folder / "out/results/small-0/weights.safetensors").exists()
    shards = folder / "out/results/small-0/shards"
    kill_when(folder, lambda: any(shards.glob("*/0001-*.json")))
    assert "goes on after epoch" in (folder / "said").read_text()
    assert not (folder / "results").exists() and not any(shards.glob("*/0009-*.json"))
    weights = (folder / "out/results/small-0/weights.safetensors").stat().st_mtime_ns

    found = finish(folder)
    assert (folder / "out/results/small-0/weights.safetensors").stat().st_mtime_ns == weights, (
        "nothing is trained twice"
    )
    assert found.pop("seconds") and undisturbed["seconds"]
    assert found == {key: value for key, value in undisturbed.items() if key != "seconds"}


def test_dvc_and_bentoml_are_not_needed(undisturbed: dict[str, Any]):
    """The runs of this file have them made unimportable."""
    assert undisturbed["sample"]["size"] == 40 and undisturbed["selection"]["epoch"] >= 1
    assert undisturbed["command"] == "make results PLAN=plan.yaml ONLY=small"


#: Starts a worker as `make compare` does, says its process id, and waits for the end that it will not see.
PARENT = """
import pathlib, time
from pipeline.experiments.plan import Places
from pipeline.experiments.workers import _start

here = pathlib.Path.cwd()
worker = _start(here / "plan.yaml", Places(here / "results", here / "out", flat=True), "datasets", "x", here / "said")
print(worker.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("begun", [False, True])
def test_a_worker_ends_with_a_command_that_is_killed(tmp_path: Path, begun: bool) -> None:
    """While it still imports, and while it trains."""
    write_plan(tmp_path / "plan.yaml", small("small", images=40, settings={"train.epochs": 10_000}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 60
    while begun and "epoch 1/" not in (tmp_path / "said").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert worker.wait(60) is None
    assert ("epoch 1/" in (tmp_path / "said").read_text()) is begun
