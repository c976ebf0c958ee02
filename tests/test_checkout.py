"""What git hands to people: a clone on a system with other line ends, and an archive without .git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION
from tests.bundles import make_bundle
from tests.test_line import ROOT, fresh_copy


def git(folder: Path, *arguments: str) -> str:
    """Git with settings of the repository alone."""
    who = {f"GIT_{role}_{field}": "tester" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command, environment = ["git", *arguments], {**os.environ, **who, **nowhere}
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, encoding="utf-8"
    ).stdout


def clone(repository: Path, target: Path, *settings: str) -> Path:
    options = [part for setting in settings for part in ("-c", setting)]
    git(repository, "clone", "-q", *options, str(repository), str(target))
    return target


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository with a bundle as the pipeline writes it, and a whole one that somebody added."""
    folder = fresh_copy(tmp_path_factory.mktemp("checkout") / "repository", {})
    make_bundle(folder / "out" / "bundle", rows=12, eps=(32,), tier="quick")
    shutil.copytree(folder / "out" / "bundle", folder / "published")
    git(folder, "add", "out", "published")
    git(folder, "commit", "-q", "-m", "second")
    return folder


@pytest.mark.parametrize("settings", [["core.autocrlf=true"], ["core.autocrlf=false", "core.eol=crlf"]])
def test_a_clone_has_the_same_bytes_whatever_the_systems_line_ends(
    repository: Path, tmp_path: Path, settings: list[str]
) -> None:
    """So every digest of DVC and of an attestation holds in it."""
    cloned = clone(repository, tmp_path / "clone", *settings)
    names = git(cloned, "ls-files", "-z").split("\0")[:-1]
    assert len(names) > 500
    for name in names:
        assert (cloned / name).read_bytes() == (repository / name).read_bytes(), name
    assert git(cloned, "status", "--porcelain") == ""
    assert open_bundle(cloned / "published").version == open_bundle(repository / "published").version


def test_no_file_of_this_repository_has_other_line_ends() -> None:
    """Git would change them on their way in."""
    listed = git(ROOT, "ls-files", "-z", "-co", "--exclude-standard").split("\0")[:-1]
    text = [ROOT / name for name in listed if (ROOT / name).is_file() and b"\0" not in (ROOT / name).read_bytes()]
    assert [path for path in text if b"\r\n" in path.read_bytes()] == []


@pytest.mark.parametrize("git_is", ["not used here", "not installed"])
def test_make_repro_works_in_an_archive_without_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git_is: str
) -> None:
    """The Makefile, DVC and the command as they are; one stage that has a bundle already, to be quick."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    folder = tmp_path / "an archive"
    for name in ("Makefile", "requirements.lock", "pyproject.toml", ".dvc/config", ".dvc/no-git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    shutil.copytree(repository / "published", folder / "made")
    stage = {"cmd": "mkdir -p out && cp -r made out/bundle", "deps": ["made"], "outs": ["out/bundle"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"attest": stage}}))
    (folder / ".venv").symlink_to(sys.prefix)
    if git_is == "not installed":
        (tmp_path / "git").write_text("#!/bin/sh\nexec git-is-not-here\n")
        (tmp_path / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = ["make", "-o", ".venv/.installed", "repro"]
    first, second = (subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False) for _ in "12")
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr
    assert f"Version {open_bundle(folder / 'made').version}" in first.stdout
    assert "No git repository here (" in first.stdout and "DVC runs without one; 'git init'" in first.stdout
    assert "Data and pipelines are up to date" in second.stdout + second.stderr


def test_an_attestation_whose_line_ends_were_changed_is_called_so(repository: Path, tmp_path: Path) -> None:
    """In a repository that has no .gitattributes of its own."""
    other = tmp_path / "other"
    shutil.copytree(repository / "published", other / "published")
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "first")
    cloned = clone(other, tmp_path / "clone", "core.autocrlf=true")
    with pytest.raises(HallmarkError, match=rf"^{ATTESTATION}: its line ends are CRLF, as git's core\.autocrlf"):
        open_bundle(cloned / "published")
