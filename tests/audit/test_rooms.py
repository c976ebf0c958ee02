"""Each room imports what it may: an auditor's installation has no torch, no service and no runtime for models."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = ["torch", "torchvision", "lightning", "pipeline", "pyautoattack", "dvc", "dvclive"]
SERVING = ["serving", "bentoml", "starlette", "prometheus_client"]
NOT_IN_THE_BASE_INSTALL = [*TRAINING, *SERVING, "onnx", "onnxruntime", "safetensors", "sklearn", "pydantic", "mlflow"]

IMPORT_ALL = """
import importlib, pkgutil, sys

room, *blocked = sys.argv[1:]

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Wall())
package = importlib.import_module(room)
names = [room, *(item.name for item in pkgutil.walk_packages(package.__path__, room + "."))]
for name in names:
    importlib.import_module(name)
print(len(names), sorted(set(blocked) & set(sys.modules)))
"""


def import_all(room: str, blocked: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", IMPORT_ALL, room, *blocked]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("room", "blocked"),
    [("bundle", [*TRAINING, *SERVING, "audit"]), ("audit", NOT_IN_THE_BASE_INSTALL)],
)
def test_every_module_of_the_room_imports_behind_the_wall(room: str, blocked: list[str]) -> None:
    done = import_all(room, blocked)
    assert done.returncode == 0, done.stderr
    count, loaded = done.stdout.split(maxsplit=1)
    assert int(count) > 5
    assert loaded.strip() == "[]"


def test_the_wall_stands() -> None:
    done = import_all("bundle", ["numpy"])
    assert done.returncode != 0
    assert "numpy is not there" in done.stderr
