"""One bundle, one service in this process, and one real service process, for all tests of the folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from serving.exchange import ModelHeaders
from serving.routes import create_app
from serving.served import Served, prepare
from serving.settings import Settings
from tests.bundles import make_bundle

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bundle/ and releases/: one that verifies, one with a changed byte."""
    folder = tmp_path_factory.mktemp("served")
    make_bundle(folder / "bundle")
    make_bundle(folder / "releases" / "sound", noise=0.1)
    tampered = make_bundle(folder / "releases" / "tampered", noise=0.2) / "model.onnx"
    content = bytearray(tampered.read_bytes())
    content[len(content) // 2] ^= 1
    tampered.write_bytes(bytes(content))
    return folder


@pytest.fixture(scope="session")
def served(folders: Path) -> Served:
    """The served model of this process, with small limits."""
    settings = Settings(
        bundle=folders / "bundle",
        releases=folders / "releases",
        threads=1,
        device="cpu",
        request_rows=100,
        image_bytes=100_000,
    )
    return prepare(settings)


@pytest.fixture(scope="session")
def client(served: Served) -> Iterator[TestClient]:
    """The app without BentoML."""
    app = create_app()
    app.state.served = served
    with TestClient(ModelHeaders(app, app.state), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def service(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a real service, started by the command."""
    with running_service(folders, tmp_path_factory.mktemp("log") / "log.txt") as client:
        yield client


@contextmanager
def running_service(folders: Path, log: Path, **environment: str) -> Iterator[httpx.Client]:
    """A client of a service that the command starts, and that must end well; `log` gets what it prints."""
    port = free_port()
    options = ["--bundle", folders / "bundle", "--releases", folders / "releases", "--port", port, "--threads", 1]
    command = [sys.executable, "-m", "serving", *map(str, options), "--device", "cpu"]
    surroundings = {**os.environ, **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=surroundings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client, process, log)
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def free_port() -> str:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a service that is starting; `log` has what it prints."""
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the service did not get ready:\n{log.read_text()}")
