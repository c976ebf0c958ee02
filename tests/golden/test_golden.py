"""What was published is opened by today's code, or refused by the same sentence as ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from audit.verification import verify
from bundle.attestation import read_statement, schema
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION
from bundle.signatures import SignatureError, key_id, read_public_key, verify_envelope
from tests.golden import HERE, __main__, form_digest, table

ROWS = table()
OPENED = [row["name"] for row in ROWS if row["bundle"] == "opened"]


def unpack(name: str, folder: Path) -> Path:
    shutil.unpack_archive(HERE / f"{name}.zip", folder / name)
    return folder / name


def said(refused: HallmarkError, folder: Path) -> str:
    """The sentence without the folder of this run."""
    return str(refused).replace(f" from {folder}", "")


def outcome(folder: Path, key: Path) -> str:
    try:
        found = verify(folder, [key])
    except HallmarkError as error:
        return said(error, folder)
    assert found.signature.key_id == key_id(read_public_key(key))
    return "opened"


def reading(content: bytes) -> str:
    try:
        read_statement(content, ATTESTATION)
    except HallmarkError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_each_is_opened_or_refused_as_ever(row: dict[str, str], tmp_path: Path) -> None:
    folder, key = unpack(row["name"], tmp_path), HERE / f"{row['name']}.pub"
    content = (folder / ATTESTATION).read_bytes()
    assert outcome(folder, key) == row["bundle"]
    assert reading(content) == row["attestation"]
    # The signature holds whatever became of the schema.
    verify_envelope((folder / "attestation.dsse.json").read_bytes(), content, [key])


@pytest.mark.parametrize("name", OPENED)
def test_none_is_opened_by_another_key_or_with_a_byte_changed(name: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    with pytest.raises(SignatureError, match="not among the trusted keys"):
        verify(folder, [HERE / f"{ROWS[0]['name']}.pub"])
    report = folder / "report.html"
    report.write_bytes(report.read_bytes()[:-1] + b"\r")
    assert outcome(folder, HERE / f"{name}.pub").startswith("report.html: ")


def test_the_newest_is_of_todays_schema_and_no_two_are_of_one() -> None:
    """Otherwise: python -m tests.golden "what is new"."""
    digests = [row["schema_sha256"] for row in ROWS]
    assert digests[-1] == form_digest(schema())
    assert len(set(digests)) == len(ROWS)
    files = {path.name for path in HERE.iterdir() if path.suffix in {".zip", ".pub"}}
    assert files == {f"{row['name']}{kind}" for row in ROWS for kind in (".zip", ".pub")}


def test_prose_is_no_form_and_a_property_named_title_is() -> None:
    plain = {"properties": {"title": {"type": "string", "description": "words"}}, "description": "more words"}
    assert form_digest(plain) == form_digest({"properties": {"title": {"type": "string"}}})
    assert form_digest(plain) != form_digest({"properties": {}})


def test_the_next_is_made_once_and_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of the schema: the table's last row is of another form."""
    older = tmp_path / "golden.json"
    older.write_text('[{"name": "01", "schema_sha256": "another"}]', encoding="utf-8")
    for module in ("tests.golden", "tests.golden.__main__"):
        monkeypatch.setattr(f"{module}.TABLE", older)
    monkeypatch.setattr(__main__, "HERE", tmp_path)
    assert __main__.add("something").startswith("02.zip: the golden bundle of today's schema")
    assert [row["name"] for row in table()] == ["01", "02"]
    shutil.unpack_archive(tmp_path / "02.zip", tmp_path / "02")
    assert outcome(tmp_path / "02", tmp_path / "02.pub") == "opened"
    assert "nothing was made" in __main__.add("something")
