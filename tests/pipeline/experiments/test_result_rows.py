"""Results for other programs: one table of ours and the papers', as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from bundle.errors import HallmarkError
from bundle.pages.tabular import TableForm
from bundle.table.threats import Threat
from pipeline.experiments.result import save_result
from pipeline.experiments.tables import main, numbers
from tests.pipeline.experiments.samples import make_result

ROW = {"dataset": "cifar10", "network": "resnet18", "method": "pgd_at", "eps": "8/255", "source": "a paper"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds of a comparison on the digits, one run at two radii on CIFAR-10, and a paper's row."""
    (tmp_path / "published.json").write_text(json.dumps([{**ROW, "clean": 82.0, "autoattack": 49.19}]))
    for seed, right in ((0, 18), (1, 16)):
        result = make_result(seed=seed, data="digits", counts=(right, 12, 11))
        save_result(tmp_path / "compare-digits" / f"pgd_at-{seed}.json", result)
    two = make_result(threats=(Threat("linf", 8), Threat("l2", 0.5)), autoattack=10)
    save_result(tmp_path / "cifar10" / "pgd_at-0.json", two)
    return tmp_path


def table(folder: Path, *only: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(numbers(folder, only, TableForm.CSV))))


def test_one_seed_has_its_interval_and_several_their_deviation(folder: Path) -> None:
    linf, l2, digits, paper = table(folder)
    assert (linf["norm"], linf["eps"], l2["norm"], l2["eps"]) == ("linf", "8/255", "l2", "0.5")
    assert (float(linf["autoattack"]), linf["autoattack_deviation"]) == (0.5, "")
    assert float(linf["autoattack_lower"]) == pytest.approx(0.2720, abs=1e-4)
    assert (digits["clean_lower"], digits["seeds"]) == ("", "0 1") and float(digits["clean"]) == pytest.approx(0.85)
    assert float(digits["clean_deviation"]) == pytest.approx(0.0707, abs=1e-4)
    assert (paper["whose"], paper["autoattack"], paper["source"]) == ("published", "0.4919", "a paper")
    assert paper["all"] == paper["autoattack_lower"] == ""


def test_only_says_of_which_folders(folder: Path) -> None:
    assert [row["data"] for row in table(folder, "compare-digits")] == ["digits"]
    assert [row["whose"] for row in table(folder, "published", "compare-digits")] == ["ours", "published"]
    with pytest.raises(HallmarkError, match="--only tiny: must be one of cifar10, compare-digits, published"):
        table(folder, "tiny")


def test_what_people_read_has_no_empty_column(folder: Path) -> None:
    head, line, *rows = numbers(folder, [], TableForm.MARKDOWN).splitlines()
    assert "AutoAttack" in head and "seeds" not in head and len({row.count(" | ") for row in (head, *rows)}) == 1
    assert r"| 50.0 \[27.2, 72.8\] |" in rows[0] and "| 85.0 ± 7.1 |" in rows[2] and line.startswith("|---")
    assert "AutoAttack" not in numbers(folder, ["compare-digits"], TableForm.MARKDOWN)
    assert r"l$\infty$ 8/255 & 90.0 [68.3, 98.8]" in numbers(folder, [], TableForm.LATEX)


def test_a_printed_table_writes_no_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    main(folder / "missing.md", folder, as_csv=True)
    assert capsys.readouterr().out.startswith("data,network,method,whose,norm,eps,clean,")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"as_csv": True, "check": True}, "give one of --csv, --latex, --markdown and --check"),
        ({"only": ["cifar10"]}, "--only is of a printed table"),
    ],
)
def test_what_cannot_be_together_is_refused(
    folder: Path, asked: dict[str, bool], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(folder / "page.md", folder, **asked)  # pyright: ignore[reportArgumentType]
    assert said in capsys.readouterr().err
