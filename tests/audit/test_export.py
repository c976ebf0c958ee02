"""What other programs take: CSV, Markdown, LaTeX, SARIF, and a folder for a hub."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from audit.cli import app
from bundle.bundle import open_bundle
from bundle.pages.tabular import TableForm, table_text
from tests.audit.conftest import Masters


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_versions_as_csv_are_the_numbers_of_the_attestation(masters: Masters) -> None:
    said = run("versions", "--csv", "--bundles", masters.unsigned, "--bundles", masters.second)
    first, second = rows(said.stdout)
    predicate = open_bundle(masters.second).predicate
    claim = next(
        item
        for item in predicate["claims"]
        if (item["setting"], item.get("threat"), item.get("attack")) == ("served", "linf-32", "all")
    )
    assert float(second["robust_served"]) == claim["value"]
    assert [float(second[f"robust_served_{end}"]) for end in ("lower", "upper")] == claim["interval"]
    assert first["threat"] == "linf-32" and first["images"] == "60" and first["signature"] == "unsigned"


def test_a_difference_as_csv_is_the_one_in_json(masters: Masters) -> None:
    found = rows(run("diff", masters.unsigned, masters.second, "--csv", "--all").stdout)
    compared = json.loads(run("diff", masters.unsigned, masters.second, "--json").stdout)["comparisons"]
    assert len(found) == len(compared)
    for row, item in zip(found, compared, strict=True):
        assert (row["setting"], float(row["difference"])) == (item["setting"], item["difference"])
        assert [float(row["lower"]), float(row["upper"])] == item["interval"]
        assert int(row["only_a"]) == len(item["onlyA"])


def test_recipes_are_rows_too(masters: Masters) -> None:
    (clean, *others) = rows(run("diff", "--recipes", masters.unsigned, masters.second, "--csv").stdout)
    assert clean["threat"] == "clean" and float(clean["difference"]) == pytest.approx(-4 / 60)
    assert clean["lower"] == "" and others


@pytest.mark.parametrize("command", ["versions", "diff"])
def test_markdown_and_latex_have_as_many_cells_in_every_row(masters: Masters, command: str) -> None:
    asked: list[object] = ["versions", "--bundles", masters.unsigned] if command == "versions" else []
    asked = asked or ["diff", masters.unsigned, masters.second]
    table = run(*asked, "--markdown").stdout.splitlines()
    assert len({line.count("|") for line in table}) == 1 and re.fullmatch(r"(\|---)+\|", table[1])
    drawn = run(*asked, "--latex").stdout
    (columns,) = re.findall(r"begin\{tabular\}\{(l+)\}", drawn)
    lines = [line for line in drawn.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in lines} == {len(columns) - 1} and "% " not in drawn.replace(r"\% ", "")


def test_what_would_be_run_is_text() -> None:
    hostile = [{"name": "=HYPERLINK(1)", "told": "a|b <i>\\input{x} & 5 % _^~"}]
    assert next(csv.reader(table_text(hostile, TableForm.CSV).splitlines()[1:]))[0] == "'=HYPERLINK(1)"
    assert r"a\|b &lt;i&gt;" in table_text(hostile, TableForm.MARKDOWN)
    drawn = table_text(hostile, TableForm.LATEX)
    assert r"\textbackslash{}input\{x\} \& 5 \% \_\textasciicircum{}\textasciitilde{}" in drawn


def test_one_form_at_a_time(masters: Masters) -> None:
    said = run("versions", "--csv", "--json")
    assert said.exit_code == 1 and "one of --csv, --latex, --markdown and --json" in said.stderr


def test_a_gate_as_sarif(masters: Masters) -> None:
    Path("policy.yaml").write_text("tier: thorough\nflags: 0\n")
    said = run("gate", masters.unsigned, "--policy", "policy.yaml", "--sarif", "gate.sarif")
    assert said.exit_code == 1
    document: dict[str, Any] = json.loads(Path("gate.sarif").read_text())
    (found,) = document["runs"]
    assert document["version"] == "2.1.0"
    assert [(item["ruleId"], item["kind"], item["level"]) for item in found["results"]] == [
        ("tier", "fail", "error"),
        ("flags", "pass", "none"),
    ]
    assert {item["ruleId"] for item in found["results"]} == {item["id"] for item in found["tool"]["driver"]["rules"]}
    (place,) = found["results"][0]["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "policy.yaml"


def test_a_folder_for_a_hub_holds_a_card_and_a_bundle_that_verifies(masters: Masters) -> None:
    assert run("document", masters.signed, "--hub", "hub").exit_code == 0
    assert sorted(path.name for path in Path("hub").iterdir()) == [".gitattributes", "README.md", "bundle"]
    card = Path("hub/README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pipeline_tag"] == "image-classification" and "hallmark verify bundle" in card
    assert "*.onnx filter=lfs" in Path("hub/.gitattributes").read_text()
    assert run("verify", "hub/bundle", "--trust", masters.trusted).exit_code == 0
    assert "is there already" in run("document", masters.signed, "--hub", "hub").stderr
    inside = run("document", masters.signed, "--hub", masters.signed / "hub")
    assert "whose set of files is exact" in inside.stderr and not (masters.signed / "hub").exists()
