"""The service on bundles whose files are links: served and listed as any, and looked at again when a link's end changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bundle.bundle import open_bundle
from bundle.layout import CARD
from serving.output.versions import Versions
from serving.served import prepare
from serving.settings import Settings
from tests.links import projected, stored


def test_a_bundle_of_links_is_served_with_its_evidence(folders: Path, tmp_path: Path) -> None:
    linked = stored(folders / "bundle", tmp_path / "bundle", tmp_path / "store")
    served = prepare(Settings(bundle=linked, releases=tmp_path / "none", threads=1, device="cpu"))
    assert served.version == open_bundle(folders / "bundle").version
    assert served.evidence[CARD].content == (folders / "bundle" / CARD).read_bytes()


def test_a_release_behind_links_is_verified_again_when_their_end_changes(folders: Path, tmp_path: Path) -> None:
    linked = stored(folders / "releases" / "sound", tmp_path / "releases" / "linked", tmp_path / "store")
    versions = Versions(open_bundle(folders / "bundle"), tmp_path / "releases")
    assert [entry["verified"] for entry in versions.all()] == [True, True]
    (linked / CARD).resolve().write_text("98 % robust\n")
    assert versions.all()[1]["refusal"].startswith(f"{CARD}: has ")
    (linked / CARD).resolve().unlink()
    assert "is a link to nothing" in versions.all()[1]["refusal"]


def test_a_mounted_release_is_followed_from_one_content_to_the_next(folders: Path, tmp_path: Path) -> None:
    mounted = projected(folders / "releases" / "sound", tmp_path / "releases" / "mounted", "..first")
    versions = Versions(open_bundle(folders / "bundle"), tmp_path / "releases")
    assert versions.all()[1]["version"] == open_bundle(mounted).version
    shutil.copytree(folders / "bundle", mounted / "..second")
    (mounted / "..data_tmp").symlink_to("..second")
    os.replace(mounted / "..data_tmp", mounted / "..data")
    shutil.rmtree(mounted / "..first")
    assert versions.all()[1]["version"] == open_bundle(folders / "bundle").version
