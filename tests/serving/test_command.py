"""`python -m serving`: what it refuses before BentoML starts, and what it does not import."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from bundle.errors import HallmarkError
from serving.settings import LEAST, PREFIX, Settings, read_port, read_settings
from serving.supervisor import SUPERVISOR, end_with_supervisor
from tests.serving.conftest import REPOSITORY, free_port, wait_until_ready
from tests.serving.test_rolling import SlowRequest


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
    skip = "import serving.__main__ as m; m.verify = lambda settings: None; m.run_command(m.serve)"
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
    with pytest.raises(HallmarkError, match=f"^{message}$"):
        read_settings({variable: value})
    with pytest.raises(HallmarkError, match="threads"):
        replace(Settings(), threads=-1)


def _told_about(service: str, ports: tuple[int, ...]) -> dict[str, str]:
    """The variables about a service that Kubernetes puts into every container (its first port has two names)."""
    prefix = service.upper().replace("-", "_")
    told = {f"{prefix}_SERVICE_HOST": "10.96.7.1", f"{prefix}_SERVICE_PORT": str(ports[0])}
    told |= {f"{prefix}_SERVICE_PORT_HTTP": str(ports[0]), f"{prefix}_PORT": f"tcp://10.96.7.1:{ports[0]}"}
    for port in ports:
        name = f"{prefix}_PORT_{port}_TCP"
        told |= {name: f"tcp://10.96.7.1:{port}", f"{name}_PROTO": "tcp"}
        told |= {f"{name}_PORT": str(port), f"{name}_ADDR": "10.96.7.1"}
    return told


@pytest.mark.parametrize("service", ["hallmark", *(f"hallmark-{name.replace('_', '-')}" for name in LEAST)])
def test_what_kubernetes_tells_about_a_service_is_no_setting(service: str) -> None:
    told = _told_about(service, (80, 3000))
    assert read_settings(told) == Settings() and read_port(told) == 3000
    assert read_settings(told | {PREFIX + "THREADS": "2"}).threads == 2


def test_a_service_starts_beside_a_service_of_its_name(folders: Path) -> None:
    """The next refusal shows that it got as far as its bundle."""
    bundle = str(folders / "releases" / "tampered")
    ended = _run("-m", "serving", HALLMARK_BUNDLE=bundle, **_told_about("hallmark", (80,)))
    assert ended.returncode == 1 and ended.stderr.startswith("model.onnx: SHA-256 is ")


@pytest.mark.parametrize("given", ["0", "65536", "http", "-1", "３０００", "80/tcp", ""])
def test_a_port_that_is_none_is_one_sentence(given: str) -> None:
    message = f"HALLMARK_PORT: must be a port, a whole number from 1 to 65535, got {given!r}"
    with pytest.raises(HallmarkError, match=f"^{message}$"):
        read_port({"HALLMARK_PORT": given})


def test_a_worker_ends_with_a_supervisor_that_is_killed(folders: Path, tmp_path: Path) -> None:
    """It answers what is under way, and the port is free for the next service."""
    port, log = free_port(), tmp_path / "log.txt"
    command = [sys.executable, "-m", "serving", "--bundle", str(folders / "bundle"), "--port", port, "--device", "cpu"]
    with log.open("wb") as output:
        supervisor = psutil.Popen(command, cwd=REPOSITORY, stdout=output, stderr=output, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client, supervisor, log)
            slow = SlowRequest(client.base_url)
        workers = supervisor.children(recursive=True)
        supervisor.kill()
        supervisor.wait()
        assert slow.finish().startswith(b"HTTP/1.1 200 OK")
        assert workers and not psutil.wait_procs(workers, timeout=20)[1], log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(supervisor.pid, signal.SIGKILL)
    assert "supervisor: is gone, so the worker ends" in log.read_text()
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", int(port)))


def test_without_a_supervisor_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is its own supervisor, or has none, must not end itself."""
    threads = threading.active_count()
    for supervisor in ({}, {SUPERVISOR: str(os.getpid())}):
        monkeypatch.setattr(os, "environ", {**supervisor})
        end_with_supervisor(1)
    assert threading.active_count() == threads


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
