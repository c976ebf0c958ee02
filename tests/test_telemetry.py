"""Nothing reports its use: every room turns the libraries' reports off before it imports one, and none is made."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.process import OFF
from tests.bundles import linear_model, make_bundle
from tests.serving.conftest import running_service

ROOT = Path(__file__).parents[1]
ROOMS = ("hallmark", "bundle", "serving", "audit", "pipeline", "benchmarks", "tests", "docs")
#: Libraries that report their use, or stand on one that does.
REPORTING = {"onnxruntime", "bentoml", "_bentoml_impl", "dvc", "dvclive", "lightning"}
#: Writes down every host that this process, or one that it starts, looks up or connects to.
HOSTS_ASKED = """
import os, sys

def note(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    with open(os.environ["HOSTS"], "a") as file:
        file.write(f"{host}\\n")

sys.addaudithook(note)
"""


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            yield path, ast.parse(path.read_text())


def _imported(tree: ast.Module) -> list[str]:
    """What a module imports, by first name in the order of its text, inside functions too."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


def test_what_reports_is_imported_only_in_a_room_that_turns_reports_off_first() -> None:
    importing = {
        path.relative_to(ROOT).parts[0]
        for path, tree in _modules()
        if {name.split(".")[0] for name in _imported(tree)} & REPORTING
    }
    assert {"bundle", "serving", "pipeline", "benchmarks", "tests"} <= importing
    for room in importing | {"audit"}:
        tree = ast.parse((ROOT / room / "__init__.py").read_text())
        first, then = map(ast.unparse, tree.body[1:3])
        assert first.startswith("from bundle.process import ") and first.endswith("set_up") and then == "set_up()"


def test_no_python_file_is_outside_the_rooms() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert {path.split("/")[0] for path in listed.stdout.split()} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS[:-1])
def test_a_room_turns_reports_off(room: str) -> None:
    program = f"import {room}, os; print(*(f'{{name}}={{os.environ[name]}}' for name in {tuple(OFF)}))"
    assert _alone(program).split() == [f"{name}={value}" for name, value in OFF.items()]
    kept = _alone(program, DVC_NO_ANALYTICS="", BENTOML_DO_NOT_TRACK="False")
    assert "DVC_NO_ANALYTICS=1" in kept and "BENTOML_DO_NOT_TRACK=False" in kept


def test_a_session_writes_no_device_id_and_no_model_name(tmp_path: Path) -> None:
    """Without the variable ONNX Runtime writes both to ~/.cache, and asks for a host; where CI is set it does not."""
    model = tmp_path / "secret-name.onnx"
    model.write_bytes(linear_model()[0])
    home = tmp_path / "home"
    home.mkdir()
    loads = f"from bundle.served.runtime import OnnxClassifier; OnnxClassifier(open({str(model)!r}, 'rb').read())"
    _alone(loads, HOME=str(home))
    assert list(home.rglob("*")) == []


def test_a_service_asks_for_no_host_but_its_own(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    (tmp_path / "sitecustomize.py").write_text(HOSTS_ASKED)
    (tmp_path / "home").mkdir()
    surroundings = {
        "PYTHONPATH": str(tmp_path),
        "HOSTS": str(tmp_path / "hosts"),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": "",
        **dict.fromkeys(OFF, ""),
    }
    with running_service(tmp_path, tmp_path / "log.txt", **surroundings) as client:
        assert client.get("/robustness").status_code == 200
    assert set((tmp_path / "hosts").read_text().split()) <= {"127.0.0.1", "localhost"}
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


def test_dvc_neither_reports_nor_looks_for_a_newer_version() -> None:
    program = (
        "from dvc.analytics import is_enabled; from dvc.updater import Updater; "
        "print(is_enabled(), Updater.is_enabled(None))"
    )
    assert _alone(program).split() == ["False", "False"]


def _alone(program: str, **environment: str) -> str:
    """What a program prints that has nothing of this process's environment."""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
