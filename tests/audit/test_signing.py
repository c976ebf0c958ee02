"""Signing: in place, or as a release beside a pipeline's out/."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from audit.releasing import sign_bundle
from audit.verification import verify
from bundle.errors import FullDiskError, HallmarkError
from bundle.layout import ATTESTATION, CARD, ENVELOPE
from bundle.signatures import SignatureError
from tests.audit.conftest import Masters


def contents(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in folder.iterdir()}


@pytest.fixture
def repository(masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pipeline and its out/bundle; the tests run in it."""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(masters.unsigned, tmp_path / "repository" / "out" / "bundle")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def test_any_folder_is_signed_in_place_and_nothing_else_changes(unsigned: Path, masters: Masters) -> None:
    before = contents(unsigned)
    signed = sign_bundle(unsigned, masters.trusted / "key.pem")
    assert (signed.folder, signed.key_id, signed.written) == (unsigned, masters.key_id, True)
    after = contents(unsigned)
    assert after.pop(ENVELOPE)
    assert after == before


def test_signing_again_changes_nothing(signed: Path, masters: Masters) -> None:
    before = contents(signed)
    assert not sign_bundle(signed, masters.trusted / "key.pem").written
    assert contents(signed) == before


def test_another_signature_is_never_replaced(signed: Path, masters: Masters) -> None:
    before = contents(signed)
    with pytest.raises(HallmarkError, match="another signature is there"):
        sign_bundle(signed, masters.other / "key.pem")
    assert contents(signed) == before


def test_a_bundle_that_does_not_verify_is_not_signed(unsigned: Path, masters: Masters) -> None:
    (unsigned / CARD).write_text("98 % robust\n")
    with pytest.raises(HallmarkError, match=CARD):
        sign_bundle(unsigned, masters.trusted / "key.pem")
    assert not (unsigned / ENVELOPE).exists()


def test_the_pipelines_own_bundle_is_left_alone_and_released(repository: Path, masters: Masters) -> None:
    """DVC would delete a file that was added to its output."""
    source = repository / "out" / "bundle"
    before = contents(source)
    signed = sign_bundle("out/bundle", masters.trusted / "key.pem")
    assert signed.folder == Path("releases") / signed.version
    assert contents(source) == before
    released = contents(repository / signed.folder)
    assert released.pop(ENVELOPE)
    assert released == before
    assert verify(signed.folder, [masters.trusted / "key.pub"]).signature.key_id == masters.key_id
    assert os.listdir("releases") == [signed.version]
    assert (repository / signed.folder).stat().st_mode & 0o777 == 0o755


def test_the_pipelines_bundle_is_known_by_whatever_name_it_has(
    repository: Path, masters: Masters, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "link").symlink_to("out/bundle")
    monkeypatch.chdir(repository / "out")
    for name in ("bundle", "../link", str(repository / "out" / "bundle"), "./bundle/"):
        signed = sign_bundle(name, masters.trusted / "key.pem")
        assert signed.folder.resolve() == repository / "releases" / signed.version
    assert not (repository / "out" / "bundle" / ENVELOPE).exists()


def test_without_a_pipeline_out_bundle_is_any_folder(repository: Path, masters: Masters) -> None:
    (repository / "dvc.yaml").unlink()
    assert sign_bundle("out/bundle", masters.trusted / "key.pem").folder == Path("out/bundle")
    assert (repository / "out" / "bundle" / ENVELOPE).is_file()


def test_releasing_again_changes_nothing(repository: Path, masters: Masters) -> None:
    first = sign_bundle("out/bundle", masters.trusted / "key.pem")
    before = contents(first.folder)
    again = sign_bundle("out/bundle", masters.trusted / "key.pem")
    assert (again.folder, again.written) == (first.folder, False)
    assert contents(first.folder) == before
    assert os.listdir("releases") == [first.version]


@pytest.mark.parametrize("change", ["another key", ATTESTATION, "extra", "missing"])
def test_a_release_is_never_replaced(repository: Path, masters: Masters, change: str) -> None:
    signed = sign_bundle("out/bundle", masters.trusted / "key.pem")
    if change == ATTESTATION:
        (signed.folder / ATTESTATION).write_bytes(b"{}\n")
    elif change == "extra":
        (signed.folder / "notes.txt").write_bytes(b"")
    elif change == "missing":
        (signed.folder / ENVELOPE).unlink()
    before = contents(signed.folder)
    named = {"another key": ENVELOPE, "extra": "notes.txt", "missing": ENVELOPE}.get(change, change)
    key = masters.other if change == "another key" else masters.trusted
    with pytest.raises(HallmarkError, match=f"is there already with another {named}"):
        sign_bundle("out/bundle", key / "key.pem")
    assert contents(signed.folder) == before
    assert os.listdir("releases") == [signed.version]


def test_a_failure_leaves_no_half_release(repository: Path, masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audit.releasing.copy_bundle", fail)
    with pytest.raises(FullDiskError, match="the disk is full"):
        sign_bundle("out/bundle", masters.trusted / "key.pem")
    assert os.listdir("releases") == []


def test_a_key_that_is_none_changes_nothing(repository: Path, masters: Masters) -> None:
    with pytest.raises(SignatureError, match="private key"):
        sign_bundle("out/bundle", masters.trusted / "key.pub")
    assert not (repository / "releases").exists()
