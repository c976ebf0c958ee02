"""docs/audit.md: its commands and its lines of Python do what the page says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli import app
from bundle.bundle import open_bundle
from bundle.claims import find_claim
from bundle.outcomes import image_digests
from tests.audit.conftest import Masters
from tests.bundles import digits

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def indented() -> list[str]:
    return [
        line[4:].split("   #")[0] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("    ")
    ]


def test_every_command_of_the_page_runs(masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(masters.unsigned, "out/bundle")
    shutil.copyfile(masters.trusted / "key.pub", "key.pub")
    Path("out/data").mkdir()
    images, labels = digits()
    np.savez("out/data/test.npz", images=images, labels=labels)
    Path("out/data/manifest.json").write_text(json.dumps({"test_images_sha256": image_digests(images)}))
    commands = [line.split()[1:] for line in indented() if line.startswith("hallmark ")]
    assert {command[0] for command in commands} == {"verify", "keygen", "sign", "versions"}
    words = {"BUNDLE": str(masters.signed), "releases/VERSION": f"releases/{open_bundle(masters.unsigned).version}"}
    for command in commands:
        result = CliRunner().invoke(app, [words.get(word, word) for word in command])
        assert result.exit_code == 0, (command, result.stderr)


def test_the_pages_python_gives_the_claim(masters: Masters, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in indented() if not line.startswith("hallmark ")]
    exec("\n".join(lines).replace("BUNDLE", str(masters.unsigned)), {})
    predicate = open_bundle(masters.unsigned).predicate
    claim = find_claim(predicate, "robust_accuracy", setting="served", threat="linf-32", attack="margin")
    assert claim is not None
    low, high = claim["interval"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{claim['value']} ")
    assert f"low={low:.6f}"[:10] in printed.replace("np.float64(", "")
    assert f"high={high:.6f}"[:11] in printed.replace("np.float64(", "")
