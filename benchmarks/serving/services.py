"""Services as processes of their own, and how much memory they hold."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Service:
    """A running service."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def resident_bytes(self) -> int:
        """Resident memory of the process and its children."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        return sum(process.memory_info().rss for process in family)


@contextmanager
def hallmark(bundle: Path, threads: int, log: Path) -> Generator[Service]:
    """`python -m serving` of a bundle."""
    options = ["--bundle", str(bundle), "--threads", str(threads), "--device", "cpu"]
    with _service("Hallmark", ["serving", *options, "--port"], {}, "/readyz", log) as found:
        yield found


@contextmanager
def plain(bundle: Path, classes: list[str], threads: int, log: Path) -> Generator[Service]:
    """FastAPI with the same file and threads."""
    environment = {"MODEL": str(bundle / "model.onnx"), "THREADS": str(threads), "CLASSES": ",".join(classes)}
    command = ["uvicorn", "benchmarks.serving.plain:app", "--log-level", "warning", "--port"]
    with _service("FastAPI", command, environment, "/docs", log) as found:
        yield found


@contextmanager
def _service(name: str, module: list[str], environment: dict[str, str], ready: str, log: Path) -> Generator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module, str(port)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
        try:
            _wait(port, ready, process, log)
            yield Service(name, port, process)
        finally:
            process.terminate()
            process.wait(30)


def _wait(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    said = log.read_text(encoding="utf-8", errors="replace")
    raise SystemExit(f"the service did not get ready: {said}")
