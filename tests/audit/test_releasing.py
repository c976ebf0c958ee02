"""`hallmark release`: gated, signed, stored and tagged; or nothing of all that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit import releasing as module
from audit.cli import app
from audit.verification import verify
from audit.versions import store
from audit.versions.find import list_versions
from bundle.bundle import open_bundle
from bundle.layout import ATTESTATION, CARD, ENVELOPE
from tests.audit.conftest import Masters
from tests.audit.versions.test_versions import git

WHO = {f"GIT_{role}_{field}": "tester" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
NAME = "hallmark-digits-d2r_cag"
ROOT = Path(__file__).parents[3]
#: The command, killed where a function is called.
KILLED = """
import os, signal, sys
from importlib import import_module

module, _, name = sys.argv.pop(1).rpartition(":")
setattr(import_module(module), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
from audit.cli import main
main()
"""


@pytest.fixture
def repository(masters: Masters, tmp_path: Path, bentoml_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose pipeline wrote out/bundle and whose HEAD holds its attestation; the tests run in it."""
    root = tmp_path / "repository"
    shutil.copytree(masters.unsigned, root / "out" / "bundle")
    monkeypatch.chdir(root)
    for name, value in {**WHO, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(name, value)
    Path("dvc.yaml").write_text("stages: {}\n")
    Path("policy.yaml").write_text("tier: standard\n")
    git("init", "-b", "main")
    git("add", f"out/bundle/{ATTESTATION}")
    git("commit", "-m", "first")
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["release", "out/bundle", "--policy", "policy.yaml", *map(str, arguments)])


def left(repository: Path) -> dict[str, object]:
    """All that a release writes: tags, releases, what the store holds, and the bundle."""
    tags = subprocess.run(["git", "tag"], capture_output=True, text=True, check=True).stdout.split()
    releases = sorted(os.listdir("releases")) if Path("releases").is_dir() else []
    files = {path.name: path.read_bytes() for path in (repository / "out/bundle").iterdir()}
    return {"tags": tags, "releases": releases, "stored": [item.tag for item in store.stored_bundles()], "files": files}


def test_a_release_is_signed_stored_and_tagged(repository: Path, masters: Masters) -> None:
    before = left(repository)["files"]
    done = run("--tag", "v1", "--key", masters.trusted / "key.pem")
    assert (done.exit_code, done.stderr) == (0, "")
    version = open_bundle("out/bundle").version
    assert f"released: releases/{version}, BentoML model {NAME}:{version}, git tag v1" in done.stdout
    assert left(repository) == {"tags": ["v1"], "releases": [version], "stored": [f"{NAME}:{version}"], "files": before}
    (stored,) = store.stored_bundles()
    key = masters.trusted / "key.pub"
    assert verify(stored.folder, [key]).signature.key_id == masters.key_id
    message = subprocess.run(["git", "cat-file", "tag", "v1"], capture_output=True, text=True, check=True).stdout
    assert f"Hallmark release of model {version}" in message and "96.7 %" in message
    kept = subprocess.run(["git", "show", f"v1:out/bundle/{ATTESTATION}"], capture_output=True, check=True).stdout
    assert kept == (stored.folder / ATTESTATION).read_bytes()
    (listed,) = list_versions(trusted=[key])
    places = {place.kind: place.name for place in listed.places}
    assert (places["tag"], places["bentoml"], listed.signature) == ("v1", f"{NAME}:{version}", "signed")


def test_bentoml_itself_finds_the_model(repository: Path) -> None:
    import bentoml

    document = json.loads(run("--tag", "v1", "--name", "our-digits", "--json").stdout)
    model = bentoml.models.get(document["bentoml"])
    assert document["bentoml"] == f"our-digits:{document['version']}"
    assert model.info.labels["git-tag"] == "v1"
    assert open_bundle(model.path_of(store.FOLDER)).version == document["version"]


def test_a_policy_that_is_not_met_makes_nothing(repository: Path, masters: Masters) -> None:
    before = left(repository)
    Path("policy.yaml").write_text("tier: thorough\n")
    done = run("--tag", "v1", "--key", masters.trusted / "key.pem")
    assert (done.exit_code, left(repository)) == (1, before)
    assert "does not meet policy.yaml: tier: standard, must be thorough or more" in done.stderr
    refused = json.loads(run("--tag", "v1", "--json").stdout)
    assert refused["passed"] is False


def test_the_policy_sees_the_signature_that_the_release_will_have(repository: Path, masters: Masters) -> None:
    Path("policy.yaml").write_text(f"signed_by: {masters.trusted}/key.pub\n")
    for key in ([], ["--key", masters.other / "key.pem"]):
        assert run("--tag", "v1", *key).exit_code == 1
    assert run("--tag", "v1", "--key", masters.trusted / "key.pem").exit_code == 0


def _tamper(repository: Path) -> None:
    (repository / "out/bundle" / CARD).write_text("98 % robust\n")


def _uncommit(repository: Path) -> None:
    git("rm", "-q", "--cached", f"out/bundle/{ATTESTATION}")
    git("commit", "-m", "gone")


def _commit_another(repository: Path) -> None:
    kept = repository / "out/bundle" / ATTESTATION
    content = kept.read_bytes()
    kept.write_bytes(b"{}\n")
    git("commit", "-am", "another")
    kept.write_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "before", "said"),
    [
        (["--tag", "v1"], _tamper, f"{CARD}: has "),
        (["--tag", "v1"], _uncommit, f"out/bundle/{ATTESTATION}: is not committed; `git add"),
        (["--tag", "v1"], _commit_another, f"out/bundle/{ATTESTATION}: is another one in the last commit"),
        (["--tag", "v1"], lambda _: git("tag", "v1"), "v1: is a git tag already"),
        (["--tag", "a..b"], None, "a..b: is no name for a git tag"),
        (["--tag", "-d"], None, "-d: is no name for a git tag"),
        (["--tag", "v1", "--name", "Our Model"], None, "Our Model: is no name for BentoML's store"),
        (["--tag", "v1", "--key", "absent.pem"], None, "absent.pem: cannot be read as a key"),
        # git finds this out last of all: v1 is a file there, so nothing can lie below it.
        (["--tag", "v1/x"], lambda _: git("tag", "v1"), "git tag: "),
    ],
)
def test_what_stands_in_the_way_is_one_sentence_and_nothing_is_made(
    arguments: list[str], before: Callable[[Path], None] | None, said: str, repository: Path, masters: Masters
) -> None:
    if before:
        before(repository)
    state = left(repository)
    key = [] if "--key" in arguments else ["--key", str(masters.trusted / "key.pem")]
    done = run(*arguments, *key)
    assert done.exit_code == 1, done.stdout
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1
    assert left(repository) == state


def test_without_a_repository_or_bentoml_nothing_is_made(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda name: None)
    assert "BentoML is not installed" in run("--tag", "v1").stderr
    monkeypatch.undo()
    monkeypatch.chdir(repository)
    shutil.rmtree(".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    done = run("--tag", "v1")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert not Path("releases").exists()


@pytest.mark.parametrize("step", ["put", "_put_attestation"])
def test_a_step_that_fails_undoes_those_before_it(
    step: str, repository: Path, masters: Masters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "disk")

    before = left(repository)
    monkeypatch.setattr(store if step == "put" else module, step, fail)
    done = run("--tag", "v1", "--key", masters.trusted / "key.pem")
    assert done.exit_code == 1 and done.stderr.startswith("disk: cannot be written, the disk is full")
    assert left(repository) == before


@pytest.mark.parametrize(
    ("place", "pipeline"),
    [
        ("audit.versions.store:put", False),
        ("audit.versions.store:copy_bundle", True),
        ("bundle.bento_home:move_folder", True),
        ("audit.releasing:_put_attestation", True),
    ],
)
def test_a_killed_release_goes_on_where_it_stopped(
    place: str, pipeline: bool, repository: Path, masters: Masters
) -> None:
    if not pipeline:
        Path("dvc.yaml").unlink()
    arguments = ["--policy", "policy.yaml", "--tag", "v1", "--key", str(masters.trusted / "key.pem")]
    command = [sys.executable, "-c", KILLED, place, "release", "out/bundle", *arguments]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    stored = [item.tag for item in store.stored_bundles()]
    assert left(repository)["tags"] == [] and len(stored) == (place == "audit.releasing:_put_attestation")
    done = run(*arguments[2:])
    assert (done.exit_code, done.stderr) == (0, "")
    version = open_bundle("out/bundle").version
    assert left(repository)["tags"] == ["v1"] and left(repository)["stored"] == [f"{NAME}:{version}"]
    home = Path(os.environ["BENTOML_HOME"])
    assert os.listdir(home / "tmp") == [] and (home / "models" / NAME / "latest").read_text() == version
    assert not [path for path in repository.rglob(".*.part-*")]


def test_what_is_in_the_store_already_is_taken_for_no_other_release(repository: Path, masters: Masters) -> None:
    """Another signature, another label, or a damaged copy: none is what a killed release of this left."""
    assert run("--tag", "v1", "--key", masters.trusted / "key.pem").exit_code == 0
    git("tag", "-d", "v1")
    (stored,) = store.stored_bundles()
    for arguments in (["--tag", "v2", "--key", masters.trusted / "key.pem"], ["--tag", "v1"]):
        assert "is in BentoML's model store already" in run(*arguments).stderr
    (stored.folder / CARD).write_text("98 % robust\n")
    assert "is in BentoML's model store already" in run("--tag", "v1", "--key", masters.trusted / "key.pem").stderr


def test_a_bundle_that_is_signed_in_place_is_unsigned_again_where_tagging_fails(
    repository: Path, masters: Masters
) -> None:
    Path("dvc.yaml").unlink()
    git("tag", "v1")
    assert run("--tag", "v1/x", "--key", masters.trusted / "key.pem").exit_code == 1
    assert not Path("out/bundle", ENVELOPE).exists()


def test_the_same_model_is_not_released_twice(repository: Path) -> None:
    assert run("--tag", "v1").exit_code == 0
    state = left(repository)
    again = run("--tag", "v2")
    assert "is in BentoML's model store already" in again.stderr
    assert left(repository) == state


def test_a_release_from_elsewhere_puts_the_attestation_where_git_keeps_it(repository: Path) -> None:
    """A bundle of releases/ or a disk, in a clone whose out/ was cleaned: HEAD has the attestation, the tree gets it."""
    shutil.move("out/bundle", "elsewhere")
    done = CliRunner().invoke(app, ["release", "elsewhere", "--policy", "policy.yaml", "--tag", "v1"])
    assert done.exit_code == 0, done.stderr
    status = subprocess.run(["git", "status", "--porcelain", "out"], capture_output=True, text=True, check=True)
    assert status.stdout == ""
