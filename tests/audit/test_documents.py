"""`hallmark document`: what it writes, and where it refuses to write."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.crosswalk import render_crosswalk
from bundle.bundle import open_bundle
from bundle.digests import sha256_bytes
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), tier="quick", eps=(32,))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["document", *map(str, arguments)])


def test_documents_are_written_where_they_were_asked_for(folder: Path, tmp_path: Path) -> None:
    names = {"card": "README.md", "bom": "papers/mlbom.cdx.json", "crosswalk": "crosswalk.md"}
    files = {kind: tmp_path / name for kind, name in names.items()}
    options = [part for kind, file in files.items() for part in (f"--{kind}", file)]
    done = run(folder, *options, "--json")
    assert done.exit_code == 0, done.output
    bundle = open_bundle(folder)
    assert files["card"].read_bytes() == (folder / "model-card.md").read_bytes()
    assert files["bom"].read_bytes() == (folder / "mlbom.cdx.json").read_bytes()
    assert files["crosswalk"].read_text(encoding="utf-8") == render_crosswalk(bundle.predicate, bundle.digest)
    said = {kind: {"file": file.as_posix(), "sha256": sha256_bytes(file.read_bytes())} for kind, file in files.items()}
    assert json.loads(done.stdout) == said


def test_only_what_was_asked_for_is_written(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--crosswalk", tmp_path / "crosswalk.md")
    digest = sha256_bytes((tmp_path / "crosswalk.md").read_bytes())
    assert done.stdout == f"crosswalk: {tmp_path / 'crosswalk.md'} (SHA-256 {digest[:12]}…)\n"
    assert [item.name for item in tmp_path.iterdir()] == ["crosswalk.md"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "nothing to write: name a file with --card, --bom or --crosswalk, or a folder with --hub"),
        (["--bom", "{bundle}/mlbom.cdx.json"], "lies in the bundle, whose set of files is exact; write it elsewhere"),
        (["--card", "{bundle}/model-card.md"], "lies in the bundle, whose set of files is exact; write it elsewhere"),
        (["--card", "{other}/one", "--bom", "{other}/../{name}/one"], "two documents cannot be one file"),
    ],
)
def test_refusals_are_one_sentence_and_leave_nothing(
    folder: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    before = sorted(folder.iterdir())
    done = run(folder, *(part.format(bundle=folder, other=tmp_path, name=tmp_path.name) for part in options))
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.endswith(f"{sentence}\n") and done.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before and not list(tmp_path.iterdir())
    open_bundle(folder)


def test_a_bundle_that_does_not_verify_has_no_papers(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", tier="quick", eps=(32,))
    (folder / "outcomes.parquet").write_bytes((folder / "outcomes.parquet").read_bytes() + b"\0")
    done = run(folder, "--card", tmp_path / "card.md")
    assert done.exit_code == 1 and done.stderr.startswith("outcomes.parquet: has ")
    assert not (tmp_path / "card.md").exists()
