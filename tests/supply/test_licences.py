"""No package comes in by a licence that nobody looked at."""

from __future__ import annotations

import re
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata

import pytest

from tests.supply import licences, locked
from tests.supply.licences import ELSEWHERE, EXCEPTIONS, PAGE, allowed, licence


def committed() -> dict[str, str]:
    """docs/licences.md, by package."""
    table, _, _ = PAGE.read_text(encoding="utf-8").partition("| taken all the same")
    rows = re.findall(r"^\| (.+) \| (.+) \|$", table, re.MULTILINE)[1:]
    return {name: found for found, names in rows for name in names.split(", ")}


def here(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:
        return False
    return True


def test_the_page_names_every_locked_package_as_it_is_installed() -> None:
    """Write it again with `make licences`."""
    page, names = committed(), {name for name, _ in locked()}
    assert page.keys() == names and len(names) > 200
    assert {name: page[name] for name in names if here(name)} == {name: licence(name) for name in names if here(name)}


def test_each_may_be_taken_and_no_exception_is_idle() -> None:
    refused = {name for name, found in committed().items() if not allowed(found)}
    assert refused == EXCEPTIONS.keys()
    assert ELSEWHERE.keys() <= committed().keys()


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH linking-exception", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MPL-2.0 AND (Apache-2.0 OR AGPL-3.0-only)", True),
        ("MPL-2.0 AND (SSPL-1.0 OR AGPL-3.0-only)", False),
        ("LicenseRef-Proprietary", False),
        ("MIT AND", False),
        ("", False),
        (licences.UNKNOWN, False),
    ],
)
def test_all_of_and_one_of_or_must_be_allowed(expression: str, may: bool) -> None:
    assert allowed(expression) is may


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([("License-Expression", "MIT"), ("License", "GPL")], "MIT"),
        ([("License", "Apache License, Version 2.0")], "Apache-2.0"),
        (
            [("License", "Copyright (c) me\nAll of a text"), ("Classifier", "License :: OSI Approved :: MIT License")],
            "MIT",
        ),
        ([("License", "UNKNOWN"), ("Classifier", "License :: OSI Approved :: ISC License (ISCL)")], "ISC"),
        (
            [
                ("Classifier", "License :: OSI Approved :: MIT License"),
                ("Classifier", "License :: OSI Approved :: GNU Affero General Public License v3"),
            ],
            "GNU Affero General Public License v3 AND MIT",
        ),
        ([("Classifier", "License :: OSI Approved"), ("Classifier", "Topic :: Games")], licences.UNKNOWN),
    ],
)
def test_metadata_old_and_new_is_read(
    monkeypatch: pytest.MonkeyPatch, fields: list[tuple[str, str]], found: str
) -> None:
    described = Message()
    for name, value in fields:
        described[name] = value
    monkeypatch.setattr(licences, "metadata", lambda name: described)
    assert licence("something") == found


def test_a_package_that_nobody_has_looked_at_stops_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(licences, "write_whole", lambda path, content: None)
    assert licences.main() == 0
    monkeypatch.setattr(licences, "locked", lambda: [("rich", "15.0.0"), ("not-installed-anywhere", "1")])
    assert licences.main() == 1
    assert "not-installed-anywhere: its licence, not stated, is not among" in capsys.readouterr().err
