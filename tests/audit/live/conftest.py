"""A real service for each file of tests, and `hallmark live` asked about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from bundle.bundle import Bundle, open_bundle
from tests.audit.conftest import Masters
from tests.bundles import digits
from tests.serving.conftest import running_service

WAYS = ["png", "npy"]


@dataclass(frozen=True)
class Honest:
    """A real service, the bundle that it serves, and the test split."""

    url: str
    bundle: Bundle
    data: Path


@pytest.fixture(scope="module")
def honest(masters: Masters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Honest]:
    root = tmp_path_factory.mktemp("live")
    shutil.copytree(masters.signed, root / "bundle")
    images, labels = digits()
    (root / "data").mkdir()
    np.savez(root / "data" / "test.npz", images=images, labels=labels)
    with running_service(root, root / "log.txt") as client:
        yield Honest(str(client.base_url), open_bundle(root / "bundle"), root / "data")


def run(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["live", url, *map(str, arguments)])


def run_json(url: str, *arguments: object) -> Any:
    """The report, whose outcome must go with the exit code."""
    result = run(url, *arguments, "--seed", 0, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == (report["outcome"] != "not contradicted"), result.output
    return report
