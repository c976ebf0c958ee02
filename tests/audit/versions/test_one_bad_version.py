"""One version that cannot be read is one row that says so: in folders, in git, in the timeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from audit.cli import app
from audit.versions.find import Place, list_versions, read_attestation
from audit.versions.history import COMMITTED
from audit.versions.timeline import timeline
from bundle.digests import canonical_json
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES, STATEMENT_BYTES
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite
from tests.audit.versions.test_versions import commit, git

Edit = Callable[[dict[str, Any]], Any]

#: What a stranger may write into an attestation; each ended in a traceback somewhere.
EDITS: dict[str, Edit] = {
    "threat": lambda it: it["parameters"].update(threat=5),
    "norm": lambda it: it["parameters"].update(threat={"norm": "l3", "eps": 1}),
    "attack": lambda it: it["parameters"].update(attack=5),
    "seed": lambda it: it["parameters"].update(attack={"seed": "x"}),
    "main threat": lambda it: it.update(mainThreats=["linf-7"]),
    "no attack": lambda it: it.update(attacks=[item for item in it["attacks"] if item["threat"] == "linf-16"]),
    "no claim": lambda it: it.update(claims=it["claims"][:1]),
    "no worst class": lambda it: it.update(worstClass=[]),
    "no calibration": lambda it: it.update(calibration=[]),
    "no interval": lambda it: [item.pop("interval", None) for item in it["bounds"]],
    "no radius": lambda it: [item.pop("radius", None) for item in it["bounds"]],
    "large": lambda it: it["smoothing"][0].update(sigma=10**400),
    "threat twice": lambda it: it.update(threats=it["threats"] * 2),
}


def edited(bundle: Path, edit: Edit) -> bytes:
    statement = json.loads((bundle / ATTESTATION).read_bytes())
    edit(statement["predicate"])
    return canonical_json(statement)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    return tmp_path / "work"


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_attestation_whose_numbers_cannot_be_told_is_refused(masters: Masters, edit: Edit) -> None:
    found = read_attestation(Place("branch", "main"), edited(masters.unsigned, edit))
    assert found.refusal is not None
    assert found.refusal.startswith(f"{ATTESTATION}: ")
    assert found.statement is None
    assert found.describe()["headline"] is None


def test_what_every_field_may_hold_is_told_or_refused(masters: Masters) -> None:
    """Every field of the attestation in turn, as something else."""
    others = cycle((None, -1, 5, 1e308, "", [], {}, True, 2**70))
    statement = json.loads((masters.unsigned / ATTESTATION).read_bytes())
    predicate = statement["predicate"]
    for name, value in list(predicate.items()):
        first = value[0] if isinstance(value, list) and value else value
        inside = [(first, key) for key in first] if isinstance(first, dict) else []
        for holder, key in [*inside, (predicate, name)]:
            kept, holder[key] = holder[key], next(others)
            found = read_attestation(Place("branch", "main"), canonical_json(statement))
            assert "cannot be read" not in str(found.refusal)
            holder[key] = kept


def test_bad_folders_are_rows(masters: Masters, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    releases = folder / "releases"
    for name in ("good", "images", "table", "parameters", "fifo", "unreadable"):
        shutil.copytree(masters.unsigned, releases / name)
    rewrite(releases / "images", files={IMAGES: b"PK\3\4"}, recompute=False)
    (releases / "table" / OUTCOMES).write_bytes(b"PAR1" * 4)
    rewrite(releases / "parameters", predicate=EDITS["threat"])
    shutil.rmtree(releases / "fifo")
    (releases / "fifo").mkdir()
    os.mkfifo(releases / "fifo" / ATTESTATION)
    (releases / "unreadable" / ATTESTATION).unlink()
    (releases / "unreadable" / ATTESTATION).symlink_to(ATTESTATION)
    listed = [version for version in list_versions(releases=releases) if version.places[0].kind == "folder"]
    assert len(listed) == 6
    good = [Path(version.places[0].name).name for version in listed if version.refusal is None]
    assert good == ["good"]
    for command in ("versions", "history"):
        with pytest.raises(SystemExit):
            app([command, "--releases", str(releases)])
        assert "Traceback" not in capsys.readouterr().err


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("way", [Path.touch, loop, dangling], ids=["file", "loop", "dangling"])
@pytest.mark.parametrize("kind", ["releases", "store"])
def test_a_folder_of_versions_that_cannot_be_read_is_not_an_empty_one(
    folder: Path, model_store: Path, capsys: pytest.CaptureFixture[str], kind: str, way: Callable[[Path], None]
) -> None:
    place = Path("releases") if kind == "releases" else model_store
    place.parent.mkdir(parents=True, exist_ok=True)
    way(place)
    found = {item.places[0].kind: str(item.refusal) for item in list_versions()}
    assert found[kind].startswith(f"{place}: cannot be read as a folder of versions (")
    for command in ("versions", "history"):
        with pytest.raises(SystemExit) as ended:
            app([command])
        assert ended.value.code == 1
        assert "not all versions can be seen: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        app(["show", "abcdef"])
    assert "cannot be read as a folder of versions" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["releases", "store", "model"])
def test_a_folder_without_permission_is_said(
    masters: Masters, folder: Path, model_store: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shutil.copytree(masters.unsigned, Path("releases") / "good")
    shutil.copytree(masters.unsigned, model_store / "one" / "v1" / "bundle")
    closed = {"releases": Path("releases"), "store": model_store, "model": model_store / "one"}[kind]
    listed = Path.iterdir

    def iterdir(self: Path) -> Any:
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    refused = [item for item in list_versions() if item.refusal]
    assert [item.refusal.endswith("(Permission denied)") for item in refused] == [True], refused
    assert str(refused[0].places[0]).startswith({"model": "bentoml one"}.get(kind, kind))


def test_a_file_in_the_place_of_the_default_bundle_is_a_row(folder: Path) -> None:
    Path("out").mkdir()
    Path("out/bundle").touch()
    assert [item.refusal for item in list_versions() if item.places[0].kind == "folder"] == [
        "out/bundle: cannot be read (Not a directory)"
    ]


def test_bad_attestations_in_git_are_rows(masters: Masters, folder: Path) -> None:
    commit(masters.unsigned, "good")
    git("tag", "good")
    path = Path(COMMITTED)
    for name, content in (
        ("bad", edited(masters.second, EDITS["threat"])),
        ("claims", edited(masters.second, EDITS["no claim"])),
        ("large", b" " * (STATEMENT_BYTES + 1)),
    ):
        path.write_bytes(content)
        git("add", str(path))
        git("commit", "-m", name)
        git("tag", name)
    shutil.rmtree("out")
    found = {str(place): version for version in list_versions() for place in version.places}
    assert found["tag good"].refusal is None
    assert "parameters.threat" in str(found["tag bad"].refusal)
    assert "has no robust accuracy under all attacks" in str(found["tag claims"].refusal)
    assert f"has {STATEMENT_BYTES + 1} bytes there, one may have" in str(found["tag large"].refusal)
    line = timeline([], folder / "releases")
    assert [moment.label for moment in line.moments] == ["good"]
    assert len(line.left_out) == 3


def test_a_commit_of_a_year_that_no_calendar_has_is_a_row(masters: Masters, folder: Path) -> None:
    commit(masters.unsigned, "late")
    tree = subprocess.run(["git", "write-tree"], capture_output=True, check=True, text=True).stdout.strip()
    who = "a <a@b> 300000000000 +0000"
    raw = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nlate\n"
    made = subprocess.run(
        ["git", "hash-object", "-w", "-t", "commit", "--stdin"], input=raw, capture_output=True, check=True, text=True
    )
    git("branch", "-f", "late", made.stdout.strip())
    git("checkout", "late")
    git("branch", "-D", "main")
    found = timeline([], folder / "releases")
    assert [moment.day for moment in found.moments] == ["300000000000 s"]
