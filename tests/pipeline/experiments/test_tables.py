"""README's tables: from results/ and the published numbers alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle.threats import Threat
from pipeline.experiments import tables as page
from pipeline.experiments.result import save_result
from tests.pipeline.experiments.samples import make_result

ROOT = Path(__file__).resolve().parents[3]
ROW = {"dataset": "cifar10", "network": "resnet18", "method": "pgd_at", "eps": "8/255", "source": "a paper"}
GOLDEN = """\
| resnet18 | pgd_at | ours | l∞ 8/255 | 90.0 [68.3, 98.8] | 60.0 [36.1, 80.9] | 55.0 [31.5, 76.9] | 50.0 [27.2, 72.8] |  | pgd_at: n 20 of 40, seed 0, CPU |
| resnet18 | pgd_at | ours | l∞ 16/255 | 90.0 [68.3, 98.8] | 60.0 [36.1, 80.9] | 55.0 [31.5, 76.9] | 50.0 [27.2, 72.8] |  | pgd_at: n 20 of 40, seed 0, CPU |
| resnet18 | pgd_at | published | 8/255 | 82.00 | 52.60 |  |  | 49.00 | a paper; PGD-10 53.00 |
| resnet18 | regmix | not run yet |  |  |  |  |  |  |  |
| resnet18 | regmix | published, third party |  | 80.00 |  |  |  | 48.00 | another |
"""  # noqa: E501 - a line of a table is a line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two published methods and one result of ours."""
    rows = [
        {**ROW, "clean": 82.0, "pgd_10": 53.0, "pgd_50": 52.6},
        {**ROW, "eps": "0.031, as its code has it", "autoattack": 49.0},
        {
            **ROW,
            "method": "regmix",
            "eps": "0.031",
            "clean": 80.0,
            "autoattack": 48.0,
            "third_party": True,
            "source": "another",
        },
    ]
    (tmp_path / "published.json").write_text(json.dumps(rows))
    result = make_result(threats=(Threat("linf", 8), Threat("linf", 16)), autoattack=10)
    save_result(tmp_path / "cifar10" / "pgd_at-0.json", result)
    return tmp_path


def test_ours_stands_beside_the_published_and_0031_in_its_own_column(folder: Path):
    assert GOLDEN in page.tables(folder) + "\n"


def test_what_was_measured_on_the_validation_split_is_no_result_beside_papers(folder: Path):
    save_result(folder / "cifar10" / "choice-0.json", make_result("regmix", split="validation", name="choice"))
    text = page.tables(folder)
    before, after = text.split("choices made on the validation split")
    assert "| resnet18 | regmix | not run yet" in before and "choice: n 20" in after


def test_another_ball_of_a_source_is_in_no_column(folder: Path):
    rows = json.loads((folder / "published.json").read_text())
    others = [{**ROW, "eps": "16/255", "autoattack": 11.0}, {**ROW, "norm": "l2", "eps": "0.5", "autoattack": 53.0}]
    (folder / "published.json").write_text(json.dumps([*others, *rows]))
    assert GOLDEN in page.tables(folder) + "\n"


def test_comparisons_come_first(folder: Path):
    for seed in (0, 1):
        save_result(folder / "compare-digits" / f"pgd_at-{seed}.json", make_result(seed=seed, data="digits"))
    text = page.tables(folder)
    assert text.startswith("**Digits, the methods side by side** ([all columns](results/compare-digits.md))")
    assert "| PGD-AT | 90.0 ± 0.0 | 60.0 ± 0.0 | 55.0 ± 0.0 | 55.0 ± 0.0 |" in text


def test_the_page_is_filled_between_its_markers_and_checked(folder: Path, tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    with pytest.raises(SystemExit) as stopped:
        page.main(readme, folder, check=True)
    assert stopped.value.code == 1 and "old" in readme.read_text()
    page.main(readme, folder, check=False)
    text = readme.read_text()
    assert text.startswith(f"before\n{page.BEGIN}\n<details>") and text.endswith(f"{page.END}\nafter\n")
    page.main(readme, folder, check=True)
    save_result(folder / "cifar10" / "pgd_at-1.json", make_result(seed=1))
    with pytest.raises(SystemExit):
        page.main(readme, folder, check=True)


@pytest.mark.parametrize("text", ["no markers", f"{page.END}\n{page.BEGIN}", f"{page.BEGIN}\n{page.BEGIN}\n{page.END}"])
def test_a_page_without_its_markers_is_refused(text: str):
    with pytest.raises(page.TableError, match=r"README\.md: must hold the lines"):
        page.fill(text, "x", "README.md")


def test_the_readme_says_what_the_results_say():
    """Write it again with `python -m pipeline.experiments.tables`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.fill(readme, page.tables(ROOT / "results"), "README.md") == readme
