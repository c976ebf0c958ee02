"""Where git cannot tell: a failure with its reason in gate, release, versions and history, never "there is none"."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.releasing import find_baseline
from audit.versions.history import committed_attestations
from bundle.bundle import open_bundle
from bundle.gate.gate import Unseen
from tests.audit.conftest import Masters
from tests.audit.versions.test_versions import commit, git

#: Stands in for git in a folder that belongs to somebody else.
DUBIOUS = """#!/bin/sh
echo "fatal: detected dubious ownership in repository at '$PWD'" >&2
echo "To add an exception for this directory, call:" >&2
echo "	git config --global --add safe.directory $2" >&2
exit 128
"""


@pytest.fixture
def origin(masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with releases v1 and v2, whose out/bundle is the second's; v2 has no margin over v1 to speak of."""
    for name, value in {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    project = tmp_path / "origin"
    project.mkdir()
    monkeypatch.chdir(project)
    git("init", "-b", "main")
    Path("policy.yaml").write_text("not_worse: {margin: 0.5, first: pass}\n")
    git("add", "policy.yaml")
    commit(masters.unsigned, "first")
    git("tag", "v1")
    commit(masters.second, "second")
    git("tag", "v2")
    shutil.rmtree("out")
    shutil.copytree(masters.second, "out/bundle")
    return project


def cloned(origin: Path, masters: Masters, *options: str) -> Path:
    """A clone beside the origin, with the bundle of the second release; it becomes the working folder."""
    clone = origin.with_name("clone")
    git("clone", *options, origin.as_uri(), str(clone))
    os.chdir(clone)
    shutil.rmtree("out", ignore_errors=True)
    shutil.copytree(masters.second, "out/bundle")
    return clone


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def gate(bundle: str = "out/bundle", policy: str = "policy.yaml") -> Result:
    return run("gate", bundle, "--policy", policy)


def fails_everywhere(reason: str) -> None:
    """Gate, release, versions and history each end with exit 1 and the reason."""
    release = run("release", "out/bundle", "--policy", "policy.yaml", "--tag", "v9")
    for done in (gate(), release):
        assert done.exit_code == 1
        assert "cannot tell which release came before: " in done.stderr and reason in done.stderr
    for command in ("versions", "history"):
        done = run(command)
        assert done.exit_code == 1
        assert done.stderr.startswith("not all versions can be seen: ") and reason in done.stderr
        assert reason in json.loads(run(command, "--json").stdout)["unseen"]
    assert "out/bundle" in run("versions", "--wide").stdout, "what is there is listed nevertheless"


def test_a_full_clone_sees_the_release_before(origin: Path, masters: Masters) -> None:
    cloned(origin, masters)
    done = gate()
    assert done.exit_code == 1 and "not_worse than v1" in done.stderr
    for command in ("versions", "history"):
        assert run(command).exit_code == 0


def test_a_shallow_clone(origin: Path, masters: Masters) -> None:
    cloned(origin, masters, "--depth", "1")
    fails_everywhere("git: the clone is shallow, so older commits and tags are not here")


def test_a_downloaded_zip(origin: Path) -> None:
    shutil.rmtree(".git")
    fails_everywhere("not a git repository (or any of the parent directories): .git")


def test_without_git(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    fails_everywhere("git cannot be run here (No such file or directory)")


def test_a_folder_of_another_owner(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git names the folder first and the way out last: the fault is what is said."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(DUBIOUS)
    (programs / "git").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    fails_everywhere("detected dubious ownership in repository at")


def test_a_clone_without_tags(origin: Path, masters: Masters) -> None:
    """The branch and its history are all there; that releases are missing is known to the remote alone."""
    clone = cloned(origin, masters, "--no-tags")
    done = gate()
    assert done.exit_code == 1
    assert "2 tags of origin are not here, v1 among them; `git fetch --tags`" in done.stderr
    shutil.rmtree(origin)
    assert gate().exit_code == 1 and "cannot tell" in gate().stderr
    os.chdir(clone)
    git("remote", "remove", "origin")
    assert gate().exit_code == 0, "a repository without a remote has all the tags that there are"


def test_another_folder(origin: Path, tmp_path: Path) -> None:
    """Neither a folder below the project, nor one that is no project's, nor another project says what came before."""
    bundle, policy = str(origin / "out/bundle"), str(origin / "policy.yaml")
    (origin / "docs").mkdir()
    (tmp_path / "other").mkdir()
    for folder in (origin / "docs", tmp_path / "other"):
        os.chdir(folder)
        done = gate(bundle, policy)
        assert done.exit_code == 1 and "cannot tell" in done.stderr, folder
    git("init", "-b", "main")
    done = gate(bundle, policy)
    assert done.exit_code == 1
    assert f"{bundle} is no bundle of this folder, whose git history has no other release" in done.stderr


def test_that_nothing_came_before_can_be_seen(origin: Path, masters: Masters) -> None:
    git("tag", "-d", "v2")
    git("tag", "-d", "v1")
    assert gate().exit_code == 0
    git("tag", "v1", "HEAD~1")
    assert find_baseline(open_bundle(masters.unsigned), None) is None, "its own tag is the first"


def test_a_release_whose_attestation_git_does_not_have(origin: Path, masters: Masters) -> None:
    """A blob that is gone, as in a partial clone: its row is there, and counted."""
    done = CliRunner().invoke(app, ["versions"])
    assert done.exit_code == 0 and "could not be read" not in done.stdout
    name = next(item for item in committed_attestations(Path()) if item.name == "v1")
    assert name.content is not None
    _lose("v1")
    assert {item.name: item.content is None for item in committed_attestations(Path()) if item.kind == "tag"} == {
        "v1": True,
        "v2": False,
    }
    found = find_baseline(open_bundle(masters.second), None)
    assert found == Unseen("git does not have the attestation of tag v1")
    assert gate().exit_code == 1 and "git does not have the attestation of tag v1" in gate().stderr
    listed = run("versions").stdout
    assert "refused: tag v1: git does not have the content of out/bundle/attestation.json there" in listed
    assert "1 of 2 rows could not be read or trusted" in listed
    assert "1 of 2 attestations could not be read" in run("history").stdout


def _lose(revision: str) -> None:
    """Takes the attestation's blob at a revision out of the repository."""
    path = f"{revision}:out/bundle/attestation.json"
    blob = subprocess.run(["git", "rev-parse", path], capture_output=True, text=True, check=True).stdout.strip()
    Path(".git/objects", blob[:2], blob[2:]).unlink()
