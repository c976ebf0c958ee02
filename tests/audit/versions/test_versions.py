"""The versions at hand, in folders and in a scratch repository's tags and branches."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from audit.releasing import sign_bundle
from audit.versions.find import Place, Version, find_version, list_versions
from bundle.digests import sha256_file
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, CARD, ENVELOPE, MODEL
from bundle.pages.headline import headline
from tests.audit.conftest import Masters


def git(*arguments: str) -> None:
    who = {f"GIT_{role}_{field}": "tester" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *arguments], check=True, capture_output=True, env={**os.environ, **who, **nowhere})


def commit(bundle: Path, message: str) -> None:
    """Commits one bundle's attestation, as out/bundle/attestation.json is in git."""
    Path("out/bundle").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle / ATTESTATION, f"out/bundle/{ATTESTATION}")
    git("add", f"out/bundle/{ATTESTATION}")
    git("commit", "-m", message)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without a commit."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    return tmp_path / "work"


@pytest.fixture
def history(folder: Path, masters: Masters) -> Path:
    """Two versions under tags v1 (light) and v2 (annotated), the branch trial at v1, and main after v2."""
    Path("README.md").write_text("before any attestation\n")
    git("add", "README.md")
    git("commit", "-m", "start")
    git("tag", "v0")
    commit(masters.unsigned, "first")
    git("tag", "v1")
    git("branch", "trial")
    commit(masters.second, "second")
    git("tag", "-a", "v2", "-m", "second version")
    shutil.rmtree("out")
    return folder


def names(version: Version) -> set[str]:
    return {str(place) for place in version.places}


def test_nothing_at_hand_is_an_empty_list(folder: Path) -> None:
    assert list_versions() == []


def test_tags_and_branches_are_versions_and_each_attestation_is_one(history: Path, masters: Masters) -> None:
    versions = {version.attestation: version for version in list_versions()}
    first, second = (sha256_file(path / ATTESTATION) for path in (masters.unsigned, masters.second))
    assert set(versions) == {first, second}
    assert names(versions[first]) == {"tag v1", "branch trial"}
    assert names(versions[second]) == {"tag v2", "branch main"}
    assert {version.signature for version in versions.values()} == {"attestation only"}


def test_history_is_read_from_a_folder_inside_a_repository(history: Path, masters: Masters) -> None:
    """A project may be one folder of a larger repository; its out/bundle is below that folder."""
    Path("project").mkdir()
    os.chdir("project")
    commit(masters.unsigned, "the project's own")
    shutil.rmtree("out")
    assert [names(version) for version in list_versions()] == [{"branch main"}]


def test_reading_leaves_the_repository_as_it_was(history: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (history / ".git").rglob("*")}
    list_versions()
    assert {path: path.stat().st_mtime_ns for path in (history / ".git").rglob("*")} == before


def test_a_machine_without_git_lists_its_folders(
    history: Path, masters: Masters, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(masters.unsigned, "out/bundle")
    monkeypatch.setenv("PATH", "")
    found, unread = list_versions()
    assert (names(found), names(unread)) == ({"out/bundle"}, {"git ."})
    assert unread.refusal == "git cannot be run here (No such file or directory)"
    with pytest.raises(HallmarkError, match=r"no version at hand has .*; git cannot be run here"):
        find_version("v1", [found, unread])


def test_one_attestation_in_many_places_is_one_row_with_its_best_signature(history: Path, masters: Masters) -> None:
    Path("dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(masters.unsigned, "out/bundle")
    release = sign_bundle("out/bundle", masters.trusted / "key.pem").folder.as_posix()
    first = list_versions()[0]
    assert names(first) == {"out/bundle", release, "tag v1", "branch trial"}
    assert (first.signature, first.key_id) == ("unchecked", masters.key_id)
    assert list_versions(trusted=[masters.trusted / "key.pub"])[0].signature == "signed"


def test_a_bundle_that_does_not_verify_is_listed_with_its_refusal(folder: Path, masters: Masters) -> None:
    shutil.copytree(masters.unsigned, "out/bundle")
    shutil.copytree(masters.second, "releases/second")
    (folder / "out" / "bundle" / CARD).write_text("perfect\n")
    refused, sound = list_versions()
    assert refused.refusal is not None
    assert refused.refusal.startswith(f"{CARD}: has ")
    assert refused.statement is None
    assert refused.describe()["headline"] is None
    assert sound.refusal is None


def test_an_invalid_signature_is_said_and_does_not_hide_behind_a_valid_one(folder: Path, masters: Masters) -> None:
    shutil.copytree(masters.signed, "out/bundle")
    shutil.copytree(masters.signed, "releases/forged")
    envelope = Path("releases/forged", ENVELOPE)
    envelope.write_bytes(envelope.read_bytes() + b"\n")
    sound, forged = list_versions(trusted=[masters.trusted / "key.pub"])
    assert (sound.signature, forged.signature) == ("signed", "invalid")
    assert "not in canonical form" in str(forged.refusal)
    untrusted = list_versions(trusted=[masters.other / "key.pub"])
    assert [version.signature for version in untrusted] == ["invalid", "invalid"]
    assert masters.key_id in str(untrusted[0].refusal)


def test_a_fresh_clones_lone_attestation_is_no_broken_bundle(folder: Path, masters: Masters) -> None:
    Path("out/bundle").mkdir(parents=True)
    shutil.copyfile(masters.unsigned / ATTESTATION, f"out/bundle/{ATTESTATION}")
    (version,) = list_versions()
    assert (version.signature, version.refusal) == ("attestation only", None)


def test_a_tag_with_something_else_there_is_listed_with_its_refusal(history: Path) -> None:
    Path("out/bundle").mkdir(parents=True)
    Path(f"out/bundle/{ATTESTATION}").write_text("{}\n")
    git("add", ".")
    git("commit", "-m", "nonsense")
    git("tag", "broken")
    shutil.rmtree("out")
    refused = [version for version in list_versions() if version.refusal]
    assert {name for version in refused for name in names(version)} == {"tag broken", "branch main"}


def test_half_made_releases_are_passed_over(folder: Path, masters: Masters) -> None:
    shutil.copytree(masters.unsigned, "releases/.half")
    Path("releases/notes.txt").write_text("not a folder\n")
    assert list_versions() == []


def test_versions_are_found_by_tag_folder_and_digits(history: Path, masters: Masters) -> None:
    shutil.copytree(masters.unsigned, "out/bundle")
    versions = list_versions()
    first, second = versions
    digest = sha256_file(masters.unsigned / MODEL)
    assert first.attestation is not None
    for name in ("v1", "trial", "out/bundle", digest, digest[:12], digest[:4], first.attestation[:8]):
        assert find_version(name, versions) is first
    assert find_version("v2", versions) is second
    for name in ("v3", digest[:3], "", "zzzz"):
        with pytest.raises(HallmarkError, match="no version at hand"):
            find_version(name, versions)


def test_digits_that_mean_two_attestations_of_one_model_are_refused(masters: Masters) -> None:
    statement = list_versions([masters.unsigned], Path("absent"), root=Path("/"))[0].statement
    pair = [Version((Place("tag", name),), digit * 64, statement) for name, digit in (("a", "1"), ("b", "2"))]
    with pytest.raises(
        HallmarkError, match=r"more than one version; .* 111111111111 \(tag a\), 222222222222 \(tag b\)"
    ):
        find_version(sha256_file(masters.unsigned / MODEL)[:12], pair)
    assert find_version("2222", pair) is pair[1]


def test_headline_numbers_are_the_statements_own(masters: Masters) -> None:
    """The linear classifier: 58 of 60 right when clean, 27 under both attacks at the trained eps."""
    statement = list_versions([masters.unsigned], Path("absent"), root=Path("/"))[0].statement
    assert statement is not None
    top = headline(statement)
    claims = statement["predicate"]["claims"]
    trained = [item for item in claims if item.get("threat") == "linf-32" and item["setting"] == "served"]
    robust = next(item for item in trained if item["attack"] == "all")
    assert top["version"] == sha256_file(masters.unsigned / MODEL)[:12]
    assert (top["data"], top["method"], top["n"], top["flags"]) == ("digits", "D²R-CAG", 60, [])
    assert (top["robust"]["threat"], top["robust"]["served"]["correct"]) == ("linf-32", robust["correct"])
    assert (top["clean"]["served"]["correct"], top["robust"]["reference"]["correct"]) == (58, 27)
    assert (top["certified"]["radius"], top["certified"]["classifier"]) == (0.5, "smoothed-0.25")


def test_headline_tells_of_flags_failed_checks_and_claims_that_are_absent(masters: Masters) -> None:
    statement = list_versions([masters.unsigned], Path("absent"), root=Path("/"))[0].statement
    assert statement is not None
    predicate = dict(statement["predicate"])
    predicate["attacks"] = [{**predicate["attacks"][0], "flags": ["zero gradients"]}, *predicate["attacks"][1:]]
    predicate["sanity"] = [{**predicate["sanity"][0], "passed": False}]
    predicate["claims"] = [item for item in predicate["claims"] if item["setting"] == "reference"]
    predicate["smoothing"] = []
    top = headline({**statement, "predicate": predicate})
    assert top["flags"] == ["linf-16/pgd-10: zero gradients", "sanity: large_eps failed"]
    assert top["robust"]["served"] is None
    assert top["certified"] is None
