"""`python -m serving`: what it refuses before BentoML starts, and what it does not import."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError, read_settings
from tests.serving.conftest import REPOSITORY, free_port


def _run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_changed_byte_is_one_sentence_and_exit_1_and_no_server(folders: Path) -> None:
    """Given by the environment, as in a container."""
    port = free_port()
    bundle = str(folders / "releases" / "tampered")
    ended = _run("-m", "serving", HALLMARK_BUNDLE=bundle, HALLMARK_PORT=port)
    assert ended.returncode == 1
    assert ended.stdout == "" and len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("model.onnx: SHA-256 is ")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()


def test_a_port_that_is_taken_is_one_sentence(folders: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = _run("-m", "serving", "--bundle", str(folders / "bundle"), "--port", port)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"127.0.0.1:{port}: cannot be listened on (Address already in use); choose another port"
    ]


def test_a_bundle_that_changes_after_the_check_ends_the_service_instead_of_restarting_it(
    folders: Path, tmp_path: Path
) -> None:
    """BentoML's supervisor starts a worker that dies again and again; the worker stops it."""
    bundle = shutil.copytree(folders / "releases" / "tampered", tmp_path / "bundle")
    port = free_port()
    skip = "import serving.__main__ as m; m.verify = lambda settings: None; m.app()"
    ended = _run("-c", skip, "--bundle", str(bundle), "--port", port)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("model.onnx: SHA-256 is ")


def test_settings_travel_through_the_environment() -> None:
    settings = Settings(bundle=Path("/a b/bundle"), releases=Path("/r"), threads=3, device="cpu", request_rows=7)
    assert read_settings(settings.environment()) == settings


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HALLMARK_THREADS", "two", "HALLMARK_THREADS: must be a whole number, got 'two'"),
        ("HALLMARK_THREADS", "-1", "threads: must be at least 0, got -1"),
        ("HALLMARK_DEVICE", "tpu", "device: must be one of auto, cpu, cuda, got tpu"),
        ("HALLMARK_QUEUE_ROWS", "5", "queue_rows: must be at least request_rows, 1024, got 5"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}$"):
        read_settings({variable: value})
    with pytest.raises(SettingsError, match="threads"):
        replace(Settings(), threads=-1)


def test_serving_imports_no_torch_and_no_other_room() -> None:
    names = ("torch", "torchvision", "lightning", "pipeline", "audit", "sklearn")
    program = f"""
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not for serving")

sys.meta_path.insert(0, Blocked())
import serving.service, serving.__main__
"""
    ended = _run("-c", program)
    assert ended.returncode == 0, ended.stderr
