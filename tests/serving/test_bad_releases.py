"""Whatever lies under releases/, /versions and the page list the others and say what is wrong with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bundle.bundle import open_bundle
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES
from serving.output import versions
from serving.output.versions import Versions
from tests.audit.tampering import encrypted, rewrite
from tests.bundles import make_bundle


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "served")


def test_bad_releases_are_entries(served: Path, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for name in ("encrypted", "good", "parameters", "pipe", "table"):
        shutil.copytree(served, releases / name)
    rewrite(releases / "encrypted", files={IMAGES: encrypted((served / IMAGES).read_bytes())})
    rewrite(releases / "parameters", predicate=lambda it: it["parameters"].update(threat=5))
    (releases / "pipe" / ATTESTATION).unlink()
    os.mkfifo(releases / "pipe" / ATTESTATION)
    (releases / "table" / OUTCOMES).write_bytes(b"PAR1" * 4)
    first, *others = Versions(open_bundle(served), releases).all()
    assert first["served"]
    found = {entry["folder"]: entry for entry in others}
    assert [name for name, entry in found.items() if entry["verified"]] == ["good"]
    assert found["parameters"]["refusal"].startswith(f"{ATTESTATION}: predicate.parameters.threat: 5")
    assert found["pipe"]["refusal"] == f"{ATTESTATION}: must be a plain file, or a link to one"
    assert all(found[name]["refusal"] for name in ("encrypted", "table"))


def test_releases_that_cannot_be_read_are_an_entry(served: Path, tmp_path: Path) -> None:
    """A file in the folder's place is not the same as no releases."""
    listing = Versions(open_bundle(served), tmp_path / "releases")
    assert [entry["served"] for entry in listing.all()] == [True]
    (tmp_path / "releases").touch()
    first, refused = listing.all()
    assert first["served"] and not refused["verified"]
    assert refused["folder"] == "releases"
    assert refused["refusal"] == "releases: cannot be read as a folder of versions (Not a directory)"
    (tmp_path / "releases").unlink()
    shutil.copytree(served, tmp_path / "releases" / "good")
    (tmp_path / "releases" / "gone").symlink_to("nowhere")
    assert {entry["folder"]: entry["verified"] for entry in listing.all()[1:]} == {"gone": False, "good": True}


@pytest.mark.parametrize("error", [KeyError("x"), PermissionError(13, "Permission denied"), RecursionError()])
def test_an_error_that_nobody_thought_of_is_an_entry(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    releases = tmp_path / "releases"
    for name in ("bad", "good"):
        shutil.copytree(served, releases / name)
    listing = Versions(open_bundle(served), releases)

    def opened(folder: Path) -> object:
        if folder.name == "bad":
            raise error
        return open_bundle(folder)

    monkeypatch.setattr(versions, "open_bundle", opened)
    bad, good = listing.all()[1:]
    assert (bad["verified"], good["verified"]) == (False, True)
    assert bad["refusal"].startswith("bad: cannot be read (")
