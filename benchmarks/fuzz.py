"""A hundred thousand bad requests to a running service: `python -m benchmarks.fuzz` writes benchmarks/fuzz.md.

Half come from schemathesis, made from the service's own OpenAPI document; half are files, forms, headers and paths that
were good once (tests/serving/mutations.py). A good neighbour asks all the while, and its answers are checked.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer

from benchmarks.serving.services import Service, hallmark
from bundle.bundle import Bundle, open_bundle
from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.served.runtime import OnnxClassifier
from serving.model.batcher import predictions
from tests.serving.fuzz import Found, fuzz
from tests.serving.mutations import form_request, sources
from tests.serving.test_fuzz import CHECKS

PAGE = Path(__file__).with_suffix(".md")


def main(
    bundle: Annotated[Path, typer.Option(help="bundle of the digits model")] = Path("out/bundle"),
    requests: Annotated[int, typer.Option(help="mutated requests; schemathesis sends about as many")] = 50_000,
    seed: int = 0,
) -> None:
    """Sends them all and writes what came of it; exit 1 where anything was wrong."""
    with TemporaryDirectory() as folder, hallmark(bundle, 2, Path(folder) / "log.txt") as service:
        workers = _workers(service)
        found = _mutated(service, open_bundle(bundle), requests, seed)
        before = _answered(service)
        said = _generated(service, requests, seed)
        generated = _answered(service) - before
        same = _workers(service) == workers
    write_whole(PAGE, _page(found, generated, said, same, seed).encode())
    print(PAGE.read_text())
    if found.faults or not same or said is None:
        raise SystemExit("\n".join(found.faults[:20]) or "see above")


def _mutated(service: Service, bundle: Bundle, requests: int, seed: int) -> Found:
    clean = bundle.images["clean"]
    logits = OnnxClassifier(bundle.model, threads=1, device="cpu").logits(clean[:1])
    good = form_request("/predict", "image", sources(clean[:1]).pictures[0])
    [expected] = predictions(logits, bundle.class_names)
    return asyncio.run(fuzz(service.port, sources(clean), good, expected, seed=seed, numbers=range(requests)))


def _generated(service: Service, requests: int, seed: int) -> str | None:
    """schemathesis' last line; None where it found something, which it prints."""
    url, command = f"http://127.0.0.1:{service.port}/openapi.json", [sys.executable, "-m", "schemathesis.cli"]
    # Half a dozen operations have a body or parameters that can be made up without end.
    options = ["--max-examples", str(requests // 6), "--seed", str(seed), "--generation-database", "none"]
    command += ["--no-color", "run", url, "--checks", ",".join(CHECKS), *options]
    with TemporaryDirectory() as folder:  # it leaves notes where it runs
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    summary = re.search(r"\d+ generated, .*", ended.stdout)
    if ended.returncode or summary is None:
        print(ended.stdout, ended.stderr)
        return None
    return summary[0]


def _answered(service: Service) -> int:
    """Requests that the service has answered, by its own count."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(int(float(count)) for count in re.findall(r"^hallmark_request_seconds_count\{.*\} (\S+)$", text, re.M))


def _workers(service: Service) -> list[int]:
    return sorted(child.pid for child in psutil.Process(service.process.pid).children(recursive=True))


def _page(found: Found, generated: int, said: str | None, same: bool, seed: int) -> str:
    statuses = "\n".join(f"| {status} | {count} |" for status, count in sorted(found.statuses.items(), key=str))
    return f"""# Bad requests

The digits model, one service process, seed {seed}. None may be answered with 5xx (503 with Retry-After apart), every refusal
must be a problem document, and the same worker must answer from beginning to end.

* Mutated files, forms, headers and paths: {found.statuses.total()} requests, {len(found.faults)} faults; {found.neighbour}
  answers to the good neighbour meanwhile, all checked.
* schemathesis, from openapi.json: {said or "failed"}; {generated} requests by the service's own count.
* Workers that ended: {"none" if same else "some"}.

| answer to a mutated request | count |
|---|---:|
{statuses}

`python -m benchmarks.fuzz`
"""


if __name__ == "__main__":
    run_command(main)
