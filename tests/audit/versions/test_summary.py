"""Versions on one screen: lines, columns, colour, and what must not be lost in them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.versions.find import Place, Version, read_folder
from audit.versions.summary import farthest_proof, print_list, print_summary
from tests.audit.conftest import Masters


@pytest.fixture
def version(masters: Masters) -> Version:
    return read_folder(masters.unsigned)


def changed(version: Version, **changes: Any) -> Version:
    statement: Any = copy.deepcopy(version.statement)
    statement["predicate"].update(changes)
    return Version(version.places, version.attestation, statement, folder=version.folder)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_version_fits_a_screen(
    version: Version, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("audit.versions.summary.BUNDLE", version.folder)
    print_summary(version)
    found = lines(capsys)
    assert len(found) <= 14 and max(map(len, found[1:7])) <= columns
    text = "\n".join(found)
    assert "clean              96.7 % [88.5, 99.6]" in text and "robust, l∞ 32/255  45.0 % [32.1, 58.4]" in text
    assert "Report: " in text and "Next: make serve" in text and "--all" in text and "Flags: none" in text


def test_an_unreliable_version_says_so_before_its_numbers(version: Version, capsys: pytest.CaptureFixture[str]) -> None:
    assert version.statement
    check = version.statement["predicate"]["sanity"][0]
    failed = [{**check, "check": f"planted-{n}", "outcome": "fail", "passed": False} for n in range(4)]
    broken = changed(version, sanity=failed, reliable=False)
    print_summary(broken)
    found = lines(capsys)
    assert found[1].startswith("UNRELIABLE") and "planted-0" in found[1] and "; 2 more" in found[1]
    print_list([broken])
    text = "\n".join(lines(capsys))
    assert "45.0!" in text and "UNRELIABLE" in text


def test_the_proof_at_the_largest_radius_where_there_is_any() -> None:
    def bounds(*values: float) -> dict[str, Any]:
        return {
            "bounds": [{"classifier": "served", "eps_255": 2.0**n, "value": value} for n, value in enumerate(values)]
        }

    assert (farthest_proof(bounds(0.9, 0.4, 0.0)) or {})["eps_255"] == 2
    assert (farthest_proof(bounds(0.0, 0.0)) or {})["eps_255"] == 1
    assert farthest_proof(bounds()) is None


def test_the_list_is_a_line_each_at_80_columns(
    version: Version, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    tagged = Version(
        (Place("tag", "a-long-name-of-a-tag"), Place("tag", "v2")),
        version.attestation,
        version.statement,
        "signed",
        "ab",
    )
    why = "x: is none, which takes many words to say, more of them than go into a line of 80 columns"
    print_list([version, tagged, Version((Place("folder", "x"),), refusal=why)])
    found = lines(capsys)
    assert all(len(line) <= 80 for line in found if "refused" not in line)
    head, _, first, second, *rest = found
    assert head.split() == ["version", "tag", "data", "method", "clean", "robust", "at", "certified", "signed"]
    assert "96.7" in first and "45.0" in first and "32/255" in first and first.split()[-1] == "no"
    assert "…" in second and second.split()[-1] == "yes"
    assert f"refused: x: {why}" in rest  # whole, for who searches or copies it


def test_of_the_attestation_alone_nothing_is_promised(version: Version, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Version((Place("tag", "v1"),), version.attestation, version.statement, "attestation only"))
    text = "\n".join(lines(capsys))
    assert "nothing of it could be recomputed" in text and "make serve" not in text


def test_the_difference_of_equal_things_is_one_line(masters: Masters, tmp_path: Path) -> None:
    again = shutil.copytree(masters.unsigned, tmp_path / "again")
    said = CliRunner().invoke(app, ["diff", str(masters.unsigned), str(again)])
    assert said.stdout.count("\n") == 1 and "are the same evaluation of model " in said.stdout
    short, everything = (
        CliRunner().invoke(app, ["diff", str(masters.unsigned), str(masters.second), *more]).stdout
        for more in ([], ["--all"])
    )
    assert "\nReference\n" in everything and short.count("linf-32") < everything.count("linf-32")


def test_outcomes_are_coloured_where_the_terminal_has_colours(
    masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("tier: thorough\nflags: 0\n")
    asked = ["gate", str(masters.unsigned), "--policy", str(policy)]
    assert "\x1b" not in CliRunner().invoke(app, asked).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = CliRunner().invoke(app, asked).stdout
    assert "\x1b[32mpass" in said and "\x1b[1;31mFAIL" in said
