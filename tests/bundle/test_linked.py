"""Bundles whose files are links: content stores, hub snapshots, volumes of Kubernetes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bundle.bundle import open_bundle
from bundle.digests import sha256_file
from bundle.errors import HallmarkError
from bundle.folder import copy_bundle
from bundle.layout import MODEL, REQUIRED, WEIGHTS
from bundle.signatures import generate_key
from serving.model.trust import TrustPolicy
from tests.bundles import make_bundle
from tests.links import projected, stored

HELD = "..2026_11_25_22_56_54.123456789"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("plain") / "bundle", rows=12, eps=(32,), tier="quick")


@pytest.fixture
def volume(plain: Path, tmp_path: Path) -> Path:
    return projected(plain, tmp_path / "volume", HELD)


def refusal(folder: Path) -> str:
    with pytest.raises(HallmarkError) as caught:
        open_bundle(folder)
    return str(caught.value)


def test_a_bundle_of_links_is_the_bundle(plain: Path, tmp_path: Path) -> None:
    """Links into a content store beside it, as DVC's cache and a hub's snapshots keep them."""
    linked = open_bundle(stored(plain, tmp_path / "snapshots" / "0f3a", tmp_path / "blobs"))
    assert all((linked.path / name).is_symlink() for name in REQUIRED)
    assert linked.statement_bytes == open_bundle(plain).statement_bytes


def test_a_bundle_in_a_mounted_volume_is_the_bundle(plain: Path, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_bundle(volume).statement_bytes == open_bundle(plain).statement_bytes
    monkeypatch.chdir(volume)
    assert open_bundle(".").version == open_bundle(plain).version


def test_other_bytes_behind_a_link_are_refused(plain: Path, tmp_path: Path) -> None:
    folder = stored(plain, tmp_path / "bundle", tmp_path / "blobs")
    (folder / WEIGHTS).resolve().write_bytes(b"other weights")
    assert refusal(folder).startswith(f"{WEIGHTS}: has 13 bytes, the attestation says ")


@pytest.mark.parametrize("end", ["nothing", "a loop", "a folder", "a device", "a pipe"])
def test_a_link_to_no_plain_file_is_refused_and_not_waited_for(plain: Path, tmp_path: Path, end: str) -> None:
    folder = shutil.copytree(plain, tmp_path / "bundle")
    os.mkfifo(tmp_path / "pipe")
    ends = {"nothing": "absent", "a loop": WEIGHTS, "a folder": "..", "a device": "/dev/zero", "a pipe": "../pipe"}
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(ends[end])
    said = {"nothing": "is a link to nothing (absent); fetch what it stands for"}
    said["a loop"] = f"is a link to nothing ({WEIGHTS}); fetch what it stands for"
    assert refusal(folder) == f"{WEIGHTS}: {said.get(end, 'must be a plain file, or a link to one')}"


def test_the_file_set_of_links_is_exact(plain: Path, tmp_path: Path) -> None:
    folder = stored(plain, tmp_path / "bundle", tmp_path / "blobs")
    (folder / "notes.txt").symlink_to(folder / MODEL)
    assert refusal(folder).startswith("notes.txt: does not belong to a bundle")


@pytest.mark.parametrize(
    "change", ["hidden file", "seen file", "missing", "outside", "another folder", "not through it"]
)
def test_a_volume_holds_what_is_seen_and_nothing_else(volume: Path, tmp_path: Path, change: str) -> None:
    match change:
        case "hidden file":
            (volume / HELD / "notes.txt").write_bytes(b"")
        case "seen file":
            (volume / "notes.txt").write_bytes(b"")
        case "missing":
            (volume / MODEL).unlink()
        case "outside":
            shutil.move(volume / HELD, tmp_path / HELD)
            (volume / "..data").unlink()
            (volume / "..data").symlink_to(tmp_path / HELD)
        case "another folder":
            (volume / "..2025_01_01").mkdir()
        case _:
            (volume / MODEL).unlink()
            shutil.copyfile(volume / HELD / MODEL, volume / MODEL)
    assert "does not belong to a bundle" in refusal(volume)


def test_a_copy_is_of_plain_files_that_their_owner_may_change(volume: Path, plain: Path, tmp_path: Path) -> None:
    for path in (volume / HELD).iterdir():
        path.chmod(0o444)  # as a store keeps them
    copy_bundle(volume, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(REQUIRED)
    for name in REQUIRED:
        copied = tmp_path / "copy" / name
        assert not copied.is_symlink() and copied.stat().st_mode & 0o777 == 0o644
        assert sha256_file(copied) == sha256_file(plain / name)


def test_a_key_in_a_mounted_volume_has_its_folders_name(tmp_path: Path) -> None:
    generate_key(tmp_path / "keys")
    policy = TrustPolicy.read([projected(tmp_path / "keys", tmp_path / "release-team", HELD)])
    assert list(policy.names.values()) == ["release-team"]
