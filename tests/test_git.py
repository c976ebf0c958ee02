"""Git is asked about repositories that strangers made: nothing that their configuration names is ever run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from bundle.git import run
from bundle.layout import ATTESTATION, WEIGHTS
from pipeline.evaluation.ledger import count_test_reads
from tests.bundles import make_bundle

#: What can be named in a repository's configuration and is run, or fetched from, by one of git's commands or another.
PROGRAMS = (
    *("gpg.program", "gpg.openpgp.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand", "gpg.x509.program"),
    *("core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "core.alternateRefsCommand"),
    *("pager.log", "pager.tag", "pager.for-each-ref", "sequence.editor", "credential.helper", "diff.external"),
    *("diff.trap.command", "diff.trap.textconv", "filter.trap.clean", "filter.trap.smudge", "filter.trap.process"),
    *("trailer.trap.command", "interactive.diffFilter", "uploadpack.packObjectsHook", "remote.origin.uploadpack"),
)
ASKED = ("log", "tag", "cat-file", "for-each-ref", "rev-parse", "var", "check-ref-format")
HOOKS = (
    "reference-transaction",
    "post-index-change",
    "pre-commit",
    "post-commit",
    "post-checkout",
    "fsmonitor-watchman",
)
SWITCHES = {
    **{"log.showSignature": "true", "tag.gpgSign": "true", "tag.forceSignAnnotated": "true", "commit.gpgSign": "true"},
    **{"log.follow": "true", "log.mailmap": "true", "color.ui": "always", "core.untrackedCache": "true"},
    **{"user.signingKey": "somebody", "core.attributesFile": ".trap-attributes"},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle", rows=12, eps=(32,), tier="standard")


@pytest.fixture
def repository(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a signed commit and a tag of an attestation; the test runs in it."""
    root = tmp_path / "repository"
    shutil.copytree(bundle, root / "out" / "bundle")
    monkeypatch.chdir(root)
    who = {f"GIT_{role}_{field}": "tester" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    for name, value in {**who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    plain("init", "-q", "-b", "main")
    (root / ".gitattributes").write_text("* diff=trap filter=trap\n")
    plain("add", ".gitattributes", f"out/bundle/{ATTESTATION}")
    plain("commit", "-q", "-m", "first")
    signed = plain("cat-file", "commit", "HEAD").replace(b"\n\n", b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n", 1)
    commit = plain("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=signed).decode().strip()
    plain("update-ref", "refs/heads/main", commit)
    plain("tag", "v0")
    return root


@pytest.fixture
def ran(repository: Path, tmp_path: Path) -> Callable[[], list[str]]:
    """Makes the repository hostile; tells what was run since."""
    trap, notes = tmp_path / "trap", tmp_path / "notes"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> "{notes}"\n')
    trap.chmod(0o755)
    for name in (*PROGRAMS, *(f"alias.{command}" for command in ASKED)):
        plain("config", name, f"!{trap}" if name.startswith("alias") else str(trap))
    for name, value in SWITCHES.items():
        plain("config", name, value)
    (repository / "hooks").mkdir()
    for folder in (repository / "hooks", repository / ".git" / "hooks"):
        for hook in HOOKS:
            shutil.copy(trap, folder / hook)
    plain("config", "core.hooksPath", "hooks")
    return lambda: notes.read_text().splitlines() if notes.exists() else []


def plain(*arguments: str, stdin: bytes = b"") -> bytes:
    """Git as anybody runs it."""
    return subprocess.run(["git", *arguments], input=stdin, check=True, capture_output=True).stdout


def test_the_traps_work(repository: Path, ran: Callable[[], list[str]]) -> None:
    plain("log", "-1", "--format=%H")
    assert any("--verify" in line for line in ran())
    plain("-c", "tag.gpgSign=false", "-c", "tag.forceSignAnnotated=false", "tag", "-a", "v9", "-m", "trap")
    assert any("reference-transaction" in line for line in ran())


def test_history_and_versions_run_nothing(repository: Path, ran: Callable[[], list[str]]) -> None:
    for command in (["history"], ["versions"], ["show", "v0"], ["diff", "v0", "out/bundle"]):
        CliRunner().invoke(app, command)
    found = json.loads(CliRunner().invoke(app, ["history", "--json"]).stdout)
    assert len(found["history"]) == 1 and found["leftOut"] == []
    assert ran() == []


def test_a_release_runs_nothing(repository: Path, ran: Callable[[], list[str]]) -> None:
    (repository / "policy.yaml").write_text("tier: standard\n")
    done = CliRunner().invoke(app, ["release", "out/bundle", "--policy", "policy.yaml", "--tag", "v1"])
    assert done.exit_code == 0, done.stderr
    assert b"gpgsig" not in plain("cat-file", "tag", "v1") and b"PGP" not in plain("cat-file", "tag", "v1")
    refused = CliRunner().invoke(app, ["release", "out/bundle", "--policy", "policy.yaml", "--tag", "v1"])
    assert refused.exit_code == 1
    assert ran() == []


def test_the_ledger_of_test_reads_runs_nothing(repository: Path, ran: Callable[[], list[str]]) -> None:
    predicate = json.loads((repository / "out/bundle" / ATTESTATION).read_bytes())["predicate"]
    test = predicate["data"]["splits"]["test"]["sha256"]
    known = next(item["sha256"] for item in predicate["files"] if item["name"] == WEIGHTS)
    assert (count_test_reads(known, test), count_test_reads("0" * 64, test)) == (1, 2)
    assert ran() == []


@pytest.mark.parametrize("url", ["ext::{trap} %S", "ssh://trap/x", "file://{trap}", "https://127.0.0.1:9/x"])
def test_what_a_partial_clone_lacks_is_not_fetched(
    repository: Path, ran: Callable[[], list[str]], tmp_path: Path, url: str
) -> None:
    blob = plain("rev-parse", f"HEAD:out/bundle/{ATTESTATION}").decode().strip()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    settings = {"url": url.format(trap=tmp_path / "trap"), "promisor": "true", "partialCloneFilter": "blob:none"}
    for name, value in settings.items():
        plain("config", f"remote.origin.{name}", value)
    plain("config", "protocol.allow", "always")
    plain("config", "protocol.ext.allow", "always")
    plain("config", "core.repositoryFormatVersion", "1")
    plain("config", "extensions.partialClone", "origin")
    asked = run(repository, ["cat-file", "blob", f"HEAD:./out/bundle/{ATTESTATION}"])
    assert asked.returncode != 0
    for command in (["history"], ["versions"]):
        CliRunner().invoke(app, command)
    assert ran() == []


def test_a_folder_below_the_top_of_its_repository_has_its_own_history(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "vision").mkdir()
    shutil.copytree("out", "vision/out")
    plain("add", f"vision/out/bundle/{ATTESTATION}")
    plain("-c", "commit.gpgSign=false", "commit", "-q", "-m", "second")
    monkeypatch.chdir(repository / "vision")
    predicate = json.loads(Path("out/bundle", ATTESTATION).read_bytes())["predicate"]
    assert count_test_reads("0" * 64, predicate["data"]["splits"]["test"]["sha256"]) == 2
