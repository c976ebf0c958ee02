"""The service beside the plainest one that one would write, and beside a bare ONNX Runtime loop: same files, same threads.

`python -m benchmarks.serving` needs out/bundle of `make repro`; it writes benchmarks/serving.md. The order of the rounds
alternates, because whatever runs first on a shared machine meets another machine than what runs last.
"""

from __future__ import annotations

import asyncio
import io
import json
import platform
import statistics
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnxruntime
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving import wide
from benchmarks.serving.client import Load, form, load
from benchmarks.serving.page import render
from benchmarks.serving.services import Service, hallmark, plain
from bundle.bundle import Bundle, open_bundle
from bundle.command_line import run_command
from bundle.digests import write_whole
from serving.model.batcher import softmax

BATCH, CLIENTS, ROUNDS = 64, 200, 5
#: ONNX Runtime computes a row of a batch in another order than the row alone; in probabilities that is less than this.
TOLERANCE = 1e-5
PAGE = Path("benchmarks/serving.md")

Uint8 = NDArray[np.uint8]
Session = Callable[[Uint8], NDArray[np.float32]]


@dataclass
class Crowd:
    """What 200 clients at once got, and the service's resident memory in bytes, second by second."""

    load: Load
    memory: list[int] = field(default_factory=list)


def main(
    bundle: Annotated[Path, typer.Option(help="bundle of the digits model")] = Path("out/bundle"),
    seconds: Annotated[int, typer.Option(help="how long the crowd asks")] = 60,
    threads: Annotated[int, typer.Option(help="of ONNX Runtime")] = 2,
) -> None:
    """Times all three and writes the page."""
    digits = open_bundle(bundle)
    with TemporaryDirectory() as folder:
        heavy = open_bundle(wide.bundle(Path("evaluations") / "benchmark-pictures"))
        logs = Path(folder)
        with _pair(heavy, threads, logs) as services:
            batches = _batches(heavy, _bare(heavy, threads), services)
        with _pair(digits, threads, logs) as services:
            singles = _singles(digits, _bare(digits, threads), services)
            crowds = {service.name: _crowd(digits, _bare(digits, threads), service, seconds) for service in services}
    machine = {"threads": threads, "machine": platform.machine(), "onnxruntime": onnxruntime.__version__}
    write_whole(
        PAGE, render(batches, singles, crowds, seconds=seconds, clients=CLIENTS, batch=BATCH, **machine).encode()
    )
    print(f"{PAGE} is written")


def _bare(bundle: Bundle, threads: int) -> Session:
    """ONNX Runtime alone, as its manual shows it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(None, {"images": rows})[0]


@contextmanager
def _pair(bundle: Bundle, threads: int, logs: Path) -> Generator[list[Service]]:
    with (
        hallmark(bundle.path, threads, logs / "hallmark.txt") as ours,
        plain(bundle.path, bundle.class_names, threads, logs / "plain.txt") as other,
    ):
        yield [ours, other]


def _batches(bundle: Bundle, bare: Session, services: list[Service]) -> dict[str, list[float]]:
    """Images per second by name and round: one client, one request after the other, BATCH images each."""
    shape = bundle.predicate["data"]["shape"]
    rows = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), dtype=np.uint8)
    request = form("/predict_batch", "images", _npy(rows))
    right = partial(_agrees, [softmax(bare(rows))], bundle.class_names)

    def alone() -> float:
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + 6:
            bare(rows)
            count += 1
        return count * BATCH / (time.perf_counter() - started)

    def served(service: Service) -> float:
        found = asyncio.run(load(service.port, [request], 1, 6, right))
        _check(service, found)
        return len(found.seconds) * BATCH / found.wall

    work: dict[str, Callable[[], float]] = {"ONNX Runtime alone": alone}
    work |= {service.name: partial(served, service) for service in services}
    return _rounds(work, "images/s")


def _singles(bundle: Bundle, bare: Session, services: list[Service]) -> dict[str, list[float]]:
    """Median milliseconds by name and round: one client, one PNG a request."""
    images = bundle.images["clean"]
    requests = [form("/predict", "image", _png(image)) for image in images]
    expected = softmax(bare(images))
    right = partial(_agrees, [row[None] for row in expected], bundle.class_names)

    def alone() -> float:
        seconds: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() < started + 4:
            for image in images:
                asked = time.perf_counter()
                bare(image[None])
                seconds.append(time.perf_counter() - asked)
        return 1000 * statistics.median(seconds)

    def served(service: Service) -> float:
        found = asyncio.run(load(service.port, requests, 1, 4, right))
        _check(service, found)
        return 1000 * statistics.median(found.seconds)

    work: dict[str, Callable[[], float]] = {"ONNX Runtime alone": alone}
    work |= {service.name: partial(served, service) for service in services}
    return _rounds(work, "ms")


def _crowd(bundle: Bundle, bare: Session, service: Service, seconds: int) -> Crowd:
    """CLIENTS at once, one PNG a request, for `seconds`."""
    images = bundle.images["clean"]
    requests = [form("/predict", "image", _png(image)) for image in images]
    right = partial(_agrees, [row[None] for row in softmax(bare(images))], bundle.class_names)
    memory: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            memory.append(service.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = asyncio.run(load(service.port, requests, CLIENTS, seconds, right))
    finally:
        ended.set()
        watcher.join()
    print(f"{service.name}: {len(found.seconds) / found.wall:.0f} answers/s, {found.statuses}, {found.wrong} wrong")
    return Crowd(found, memory)


def _rounds(work: dict[str, Callable[[], float]], unit: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS):
        for name in list(work)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(work[name]())
            print(f"round {number + 1}: {name}: {found[name][-1]:.2f} {unit}", flush=True)
    return found


def _check(service: Service, found: Load) -> None:
    if found.wrong or set(found.statuses) != {200}:
        raise SystemExit(f"{service.name}: {found.wrong} wrong answers, statuses {found.statuses}")


def _agrees(expected: list[NDArray[np.float64]], names: list[str], number: int, body: bytes) -> bool:
    """Whether an answer is the bare session's, row by row: class, and every probability."""
    answer = json.loads(body)
    rows = answer.get("predictions", [answer])
    shares = np.array([[row["probabilities"][name] for name in names] for row in rows])
    classes = [names[label] for label in expected[number].argmax(axis=1)]
    return [row["class"] for row in rows] == classes and bool(np.abs(shares - expected[number]).max() < TOLERANCE)


def _npy(rows: Uint8) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return buffer.getvalue()


def _png(image: Uint8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    run_command(main)
