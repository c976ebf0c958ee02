"""A harness is named by the digest of its source: another byte is another harness, another folder is not."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from bundle.command_line import DISTRIBUTION
from pipeline.run import environment
from pipeline.run.environment import PLACES, own_harness, package_harness, plugin_harness

ROOT = Path(__file__).parents[3]
STAGES = {"attacks": "attack", "corruptions": "attack", "proofs": "certify"}


def put_code(root: Path) -> None:
    for place in ("attacks/one.py", "attacks/deep/two.py", "jobs.py"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(place)


def test_the_digest_follows_the_code_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = []
    for folder in ("here", "some where else"):
        put_code(tmp_path / folder)
        monkeypatch.setattr(environment, "ROOT", tmp_path / folder)
        (tmp_path / folder / "attacks" / "__pycache__").mkdir()
        (tmp_path / folder / "attacks" / "__pycache__" / "one.pyc").write_text(folder)
        (tmp_path / folder / "notes.txt").write_text(folder)
        found.append(environment.code_digest("attacks", "jobs.py"))
    assert found[0] == found[1]
    (tmp_path / "some where else" / "attacks/deep/two.py").write_text("other")
    assert environment.code_digest("attacks", "jobs.py") != found[0]


def test_every_stage_depends_on_the_code_that_its_harness_names():
    """Else a stage that did not run again would attest a digest of code that is no longer there."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for kind, places in PLACES.items():
        listed = [Path(item) for item in stages[STAGES[kind]]["deps"]]
        for place in map(Path, places):
            assert (ROOT / place).exists()
            assert any(place == item or item in place.parents for item in listed), (kind, place)
    assert len({own_harness(kind)["digest"]["sha256"] for kind in PLACES}) == len(PLACES)


def test_a_package_is_named_by_its_installed_files(tmp_path: Path):
    """The same wheel in two places is the same harness; a changed file of it is another."""
    assert package_harness("pyautoattack")["version"] == distribution("pyautoattack").version
    assert len(package_harness("pyautoattack")["digest"]["sha256"]) == 64
    code = "from pipeline.run.environment import package_harness; print(package_harness('tiny'))"
    said = []
    for place, content in (("a", "x = 1\n"), ("b/c", "x = 1\n"), ("d", "x = 2\n")):
        site = tmp_path / place
        info = site / "tiny-1.2.dist-info"
        info.mkdir(parents=True)
        (site / "tiny.py").write_text(content)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.2\n")
        (info / "direct_url.json").write_text(str(site))
        (info / "RECORD").write_text(
            "tiny.py,,\ntiny-1.2.dist-info/direct_url.json,,\n__pycache__/tiny.pyc,,\n../bin/tiny,,\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": f"{ROOT}:{site}"},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("{'name': 'tiny', 'version': '1.2', 'digest': {'sha256': '")


def test_what_is_not_known_is_not_named():
    assert package_harness("no-such-package") == {"name": "no-such-package", "version": "unknown"}
    assert plugin_harness(None) == own_harness("attacks")
    assert plugin_harness(distribution(DISTRIBUTION)) == own_harness("attacks")
    assert plugin_harness(distribution("pyautoattack")) == package_harness("pyautoattack")
