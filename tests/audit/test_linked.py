"""DVC with `cache.type symlink`: out/bundle is links into its cache, and every command takes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.versions import store
from bundle.bundle import open_bundle
from bundle.layout import ATTESTATION, CARD, ENVELOPE, REQUIRED
from tests.audit.conftest import Masters
from tests.audit.test_releasing import WHO
from tests.audit.versions.test_versions import git


def dvc(*arguments: str) -> None:
    """Runs DVC, with settings of this repository alone."""
    nowhere = {f"DVC_{level}_CONFIG_DIR": str(Path("nowhere").resolve()) for level in ("GLOBAL", "SYSTEM")}
    environment = {**os.environ, **nowhere, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(Path("site").resolve())}
    subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment, check=True)


@pytest.fixture(scope="module")
def pipeline(masters: Masters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose pipeline wrote out/bundle, and whose DVC keeps links."""
    root = tmp_path_factory.mktemp("pipeline")
    outs: list[object] = [f"out/bundle/{name}" for name in REQUIRED if name != ATTESTATION]
    outs.append({f"out/bundle/{ATTESTATION}": {"cache": False}})
    command = f"mkdir -p out/bundle && cp {masters.unsigned}/* out/bundle"
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"attest": {"cmd": command, "outs": outs}}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        dvc("init", "--no-scm")
        dvc("config", "cache.type", "symlink")
        dvc("repro")
    return root


@pytest.fixture
def repository(pipeline: Path, tmp_path: Path, bentoml_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own, in git; the test runs in it."""
    root = shutil.copytree(pipeline, tmp_path / "repository", symlinks=True)
    monkeypatch.chdir(root)
    for name, value in {**WHO, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)
    git("init", "-b", "main")
    git("add", f"out/bundle/{ATTESTATION}")
    git("commit", "-m", "first")
    (root / "policy.yaml").write_text("tier: standard\n")
    return root


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.stderr
    return done


def plain_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()}


def test_the_files_are_links_and_every_reader_takes_them(repository: Path, masters: Masters) -> None:
    links = {path.name for path in (repository / "out/bundle").iterdir() if path.is_symlink()}
    assert links == {*REQUIRED} - {ATTESTATION}
    assert "consistent but unsigned" in run("verify", "out/bundle").stdout
    assert "80.0 % [67.7, 89.2] 48/60" in run("show", "out/bundle", "--all").stdout
    assert json.loads(run("versions", "--json").stdout)["versions"][0]["refusal"] is None
    run("gate", "out/bundle", "--policy", "policy.yaml")
    run("diff", "out/bundle", masters.second)
    run("document", "out/bundle", "--card", "card.md")
    run("withhold", "out/bundle", "--out", "private", "--private", "owned", "--secret", "secret")
    run("merge", "out/bundle", masters.unsigned, "-o", "merged")


def test_signing_and_releasing_write_plain_files(repository: Path, masters: Masters) -> None:
    key = ["--key", masters.trusted / "key.pem"]
    signed = Path(json.loads(run("sign", "out/bundle", *key, "--json").stdout)["folder"])
    assert plain_files(signed) == {*REQUIRED, ENVELOPE}
    assert not (repository / "out/bundle" / ENVELOPE).exists()
    shutil.rmtree(signed)
    run("release", "out/bundle", "--policy", "policy.yaml", "--tag", "v1", *key)
    assert plain_files(signed) == {*REQUIRED, ENVELOPE}
    (kept,) = store.stored_bundles()
    assert plain_files(kept.folder) == {*REQUIRED, ENVELOPE}
    shutil.rmtree(repository / ".dvc")  # the cache is gone, what was released is not
    run("verify", signed, "--trust", masters.trusted / "key.pub")


def test_data_that_was_not_pulled_is_called_so(repository: Path) -> None:
    shutil.rmtree(repository / ".dvc" / "cache")
    (repository / "out/bundle" / CARD).unlink()
    (repository / "out/bundle" / CARD).symlink_to(repository / ".dvc/cache/files/md5/00/11")
    done = CliRunner().invoke(app, ["verify", "out/bundle"])
    assert done.exit_code == 1
    assert "is a link to nothing" in done.stderr


def test_a_pipeline_on_another_disk_is_still_dvcs(repository: Path, masters: Masters, tmp_path: Path) -> None:
    """out/ is a link: DVC would delete a file that was added to the bundle in it."""
    shutil.move(repository / "out", tmp_path / "big disk")
    (repository / "out").symlink_to(tmp_path / "big disk")
    run("sign", "out/bundle", "--key", masters.trusted / "key.pem")
    assert not (tmp_path / "big disk/bundle" / ENVELOPE).exists()
    assert open_bundle(next((repository / "releases").iterdir())).envelope is not None
