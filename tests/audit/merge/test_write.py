"""`hallmark merge`: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.verification import verify
from bundle.layout import CARD, ENVELOPE, MODEL, REQUIRED
from bundle.table.threats import Threat
from tests.audit.conftest import Masters
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two evaluations of one model: random corners alone; other corners, the margin attack, and an l2 ball."""
    root = tmp_path_factory.mktemp("parts")
    weak = make_bundle(root / "weak", attacks=("pgd-10",), tier="quick")
    return weak, make_bundle(root / "strong", attack_seed=3, others=(Threat("l2", 0.5),))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["merge", *map(str, arguments)])


def refused(result: Result) -> str:
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in folder.iterdir()}


def test_the_claims_before_and_after_are_told_and_the_result_verifies(parts: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "new" / "merged"
    found = run(*parts, "-o", target)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].endswith(f": 2 evaluations merged in {target}")
    assert "served l∞ 32/255, all attacks: 91.7 % and 45.0 % → 45.0 %" in lines
    assert any(line.startswith("reference l2 0.5, all attacks: not attacked and ") for line in lines)
    assert any(line.startswith("served l2 0.5 or l∞ 16/255, all attacks: not attacked and ") for line in lines)
    assert f"attack linf-16/pgd-10 of {parts[1]} is linf-16/pgd-10-seed-3 here, since another one has its name" in lines
    assert lines[-1].startswith("Signatures of the parts do not carry over: ")
    assert verify(target).signature.state == "unsigned"
    assert sorted(contents(target)) == sorted(REQUIRED)
    assert [item.name for item in target.parent.iterdir()] == ["merged"]  # nothing is left beside it


def test_as_json(parts: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "merged"
    document = json.loads(run(*parts, "-o", target, "--json").stdout)
    predicate = verify(target).bundle.predicate
    assert document["folder"] == target.as_posix()
    assert document["merged"] == predicate["merged"]
    assert document["signed"] is False
    changes = {(item["setting"], item["threat"]): item for item in document["robustAccuracy"]}
    assert changes["served", "linf-32"]["parts"] == [55 / 60, 27 / 60]
    assert changes["served", "linf-32"]["merged"] == 27 / 60
    assert changes["served", "union"]["parts"][0] is None
    assert {item["new"] for item in document["renamed"]} == {"linf-16/pgd-10-seed-3", "linf-32/pgd-10-seed-3"}


def test_the_same_bundles_give_the_same_bytes_whatever_the_folder(parts: tuple[Path, Path], tmp_path: Path) -> None:
    moved = [shutil.copytree(part, tmp_path / f"moved-{part.name}") for part in parts]
    run(*parts, "-o", tmp_path / "one")
    run(*moved, "-o", tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_signature_is_checked_and_not_carried_over(masters: Masters, tmp_path: Path) -> None:
    assert run(masters.signed, masters.unsigned, "-o", tmp_path / "merged").exit_code == 0
    assert not (tmp_path / "merged" / ENVELOPE).exists()


def test_another_model_is_refused_and_both_are_named(masters: Masters, tmp_path: Path) -> None:
    sentence = refused(run(masters.unsigned, masters.second, "-o", tmp_path / "merged"))
    for name in (masters.unsigned, masters.second):
        assert f"{name}" in sentence
        assert verify(name).bundle.version in sentence
    assert not (tmp_path / "merged").exists()


def test_a_bundle_that_does_not_verify_is_named_with_what_is_wrong(
    unsigned: Path, masters: Masters, tmp_path: Path
) -> None:
    (unsigned / CARD).write_text("98 % robust\n")
    sentence = refused(run(masters.signed, unsigned, "-o", tmp_path / "merged"))
    assert sentence.startswith(f"{unsigned}: does not verify: {CARD}: has ")
    assert not (tmp_path / "merged").exists()


def test_nothing_that_is_there_is_written_over(parts: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine\n")
    (tmp_path / "file").write_text("mine\n")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        assert "is there already" in refused(run(*parts, "-o", tmp_path / name))
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine\n"
    (tmp_path / "empty").mkdir()
    assert run(*parts, "-o", tmp_path / "empty").exit_code == 0
    assert (tmp_path / "empty" / MODEL).is_file()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["empty", "file", "full", "link"]


def test_a_source_is_not_spoilt_by_what_is_written_into_it(unsigned: Path, masters: Masters) -> None:
    sentence = refused(run(unsigned, masters.signed, "-o", unsigned / "merged"))
    assert "which would not verify any more" in sentence
    assert verify(unsigned)


def test_wrong_usage_is_exit_2_and_one_bundle_is_refused(masters: Masters, tmp_path: Path) -> None:
    assert run(masters.unsigned, masters.signed).exit_code == 2
    assert run("-o", tmp_path / "merged").exit_code == 2
    assert "two bundles or more" in refused(run(masters.unsigned, "-o", tmp_path / "merged"))


def test_a_failure_on_the_way_leaves_nothing(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is whole or not there; nor is a half one beside it."""

    def full_disk(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bundle.assembly.write_whole", full_disk)
    assert "the disk is full" in refused(run(*parts, "-o", tmp_path / "merged"))
    assert list(tmp_path.iterdir()) == []
