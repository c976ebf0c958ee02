"""A service that is sent what nobody should send. `python -m benchmarks.fuzz` sends a hundred thousand of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from bundle.bundle import open_bundle
from bundle.served.runtime import OnnxClassifier
from serving.model.batcher import predictions
from tests.serving.fuzz import fuzz
from tests.serving.mutations import form_request, request, sources

pytest.importorskip("schemathesis", reason="schemathesis is part of the extra dev")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_a_request_follows_from_its_seed_and_number() -> None:
    given = sources(np.zeros((4, 8, 8, 1), np.uint8))
    assert [request(given, 1, number) for number in range(50)] == [request(given, 1, number) for number in range(50)]
    assert request(given, 1, 0) != request(given, 2, 0)


def test_mutated_requests_fail_nothing_and_change_no_neighbours_answer(service: httpx.Client, folders: Path) -> None:
    bundle = open_bundle(folders / "bundle")
    clean = bundle.images["clean"]
    logits = OnnxClassifier(bundle.model, threads=1, device="cpu").logits(clean[7:8])
    good, [expected] = (
        form_request("/predict", "image", sources(clean[7:8]).pictures[0]),
        predictions(logits, bundle.class_names),
    )
    port = service.base_url.port
    assert port is not None
    found = asyncio.run(fuzz(port, sources(clean), good, expected, seed=0, numbers=range(3000)))
    assert found.faults == [] and found.neighbour > 0
    assert found.statuses.total() == 3000 and {200, 400, 404, 405, 415, 422} <= set(found.statuses)
    assert service.get("/readyz").status_code == 200


def test_the_service_keeps_its_own_openapi(service: httpx.Client, tmp_path: Path) -> None:
    """Every status, type, header and document that comes is one that openapi.json declares."""
    options = ["--checks", ",".join(CHECKS), "--max-examples", "20", "--seed", "0", "--generation-database", "none"]
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{service.base_url}/openapi.json"]
    ended = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
