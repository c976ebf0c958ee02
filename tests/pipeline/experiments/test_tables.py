"""The results' pages: from results/ and the published numbers alone."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bundle.errors import HallmarkError
from bundle.table.threats import Threat
from pipeline.experiments import tables
from pipeline.experiments.result import CurvePoint, save_result
from tests.pipeline.experiments.samples import make_result

ROOT = Path(__file__).resolve().parents[3]
ROW = {"dataset": "cifar10", "network": "resnet18", "method": "pgd_at", "eps": "8/255", "source": "a paper"}
CURVE = {**ROW, "split": "test", "attack": "PGD-10", "epochs": 3, "schedule": "one lr"}
GOLDEN = """\
| pgd_at | ours | l∞ 8/255 | 90.0 [68.3, 98.8] | 60.0 [36.1, 80.9] | 60.0 [36.1, 80.9] | 55.0 [31.5, 76.9] | 50.0 [27.2, 72.8] | 1 min | clean 20, attacks 20; seed 0; CPU |
| pgd_at | ours | l∞ 16/255 | 90.0 [68.3, 98.8] | 60.0 [36.1, 80.9] | 60.0 [36.1, 80.9] | 55.0 [31.5, 76.9] | 50.0 [27.2, 72.8] | 1 min | clean 20, attacks 20; seed 0; CPU |
| pgd_at | published | l∞ 8/255 | 82.00 | 53.00 | 52.60 |  |  |  | a paper; epoch: best; 2 runs |
| pgd_at | published | l∞ 0.031, as its code has it |  |  |  |  | 49.00 |  | a paper; epoch: not stated |
| regmix | published, third party | l2 0.5 | 80.00 |  |  |  | 48.00 |  | another; epoch: not stated |
"""  # noqa: E501 - a line of a table is a line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Published rows of two methods, a comparison on the digits, and a result of ours on CIFAR-10."""
    other = {**ROW, "method": "regmix", "norm": "l2", "eps": "0.5", "third_party": True, "source": "another"}
    rows = [
        {**ROW, "clean": 82.0, "pgd_10": 53.0, "pgd_50": 52.6, "selection": "best", "runs": 2},
        {**ROW, "eps": "0.031, as its code has it", "autoattack": 49.0},
        {**other, "clean": 80.0, "autoattack": 48.0},
    ]
    (tmp_path / "published.json").write_text(json.dumps(rows))
    points = [[epoch, 40.0, 20.0 + epoch] for epoch in (1, 2, 3)]
    (tmp_path / "published-curves.json").write_text(json.dumps([{**CURVE, "points": points}]))
    for seed in (0, 1):
        save_result(tmp_path / "compare-digits" / f"pgd_at-{seed}.json", make_result(seed=seed, data="digits"))
    result = make_result(threats=(Threat("linf", 8), Threat("linf", 16)), autoattack=10)
    save_result(tmp_path / "cifar10" / "pgd_at-0.json", result)
    (tmp_path / "page.md").write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    return tmp_path


def page(folder: Path, name: str = "README.md") -> str:
    return tables.pages(folder / "page.md", folder)[folder / name]


def test_ours_stands_beside_the_published_a_row_a_radius(folder: Path):
    assert f"## CIFAR-10, resnet18\n\n{tables.HEAD}\n{GOLDEN}" in page(folder)


def test_what_was_measured_on_the_validation_split_is_no_result_beside_papers(folder: Path):
    save_result(folder / "cifar10" / "choice-0.json", make_result("regmix", split="validation", name="choice"))
    before, after = page(folder).split("choices made on the validation split")
    assert f"{tables.HEAD}\n{GOLDEN}" in before and "| regmix (choice) | ours, reconstructed |" in after


def test_a_network_that_only_papers_trained_is_folded_up(folder: Path):
    assert "## CIFAR-10, wide_resnet_34_10" not in page(folder)
    assert page(folder).index("## Digits") < page(folder).index("## The papers' numbers")


def test_seeds_are_one_row_and_what_papers_claim_stands_below(folder: Path):
    for seed, found in ((0, 12), (1, 14)):
        for method, gain in (("regmix", 1), ("fgsm_pgk", 0)):
            result = make_result(method, seed, counts=(18, found + gain, 9), autoattack=9)
            save_result(folder / "cifar10" / f"{method}-{seed}.json", result)
    text = page(folder)
    assert "| regmix | ours, reconstructed | l∞ 8/255 | 90.0 ± 0.0 | 70.0 ± 7.1 | 70.0 ± 7.1 |" in text
    assert "seeds 0, 1; CPU" in text
    assert "* linf-8, pgd-10: regmix minus fgsm_pgk, 2 seeds: +5.0% [+5.0%, +5.0%]. The paper: +1.38 points" in text
    assert "* linf-8, autoattack: regmix minus fgsm_pgk, seed 1: +0.0%" in text


def test_a_run_that_was_trained_elsewhere_says_where(folder: Path):
    result = make_result("regmix", autoattack=9).model_copy(update={"trained_on": "NVIDIA H200"})
    save_result(folder / "cifar10" / "regmix-0.json", result)
    assert "seed 0; NVIDIA H200, attacked on CPU |" in page(folder)


def test_the_readme_has_the_digits_until_two_methods_are_there_on_cifar_with_the_small_network(folder: Path):
    assert "| PGD-AT | 90.0 ± 0.0 | 60.0 ± 0.0 | 55.0 ± 0.0 | 55.0 ± 0.0 |" in page(folder, "page.md")
    for method in ("pgd_at", "regmix"):
        assert "PGD-AT" in page(folder, "page.md")
        result = make_result(method, name=f"resnet20-{method}", threats=(Threat("linf", 8), Threat("linf", 16)))
        small = result.model_copy(update={"network": {"name": "resnet20", "classes": 10}})
        save_result(folder / "cifar10" / f"resnet20-{method}-0.json", small)
    text = page(folder, "page.md")
    assert "| pgd_at | ours | l∞ 8/255 |" in text and "16/255" not in text and "PGD-AT" not in text


def test_the_curves_are_drawn_as_far_as_ours_reach(folder: Path):
    assert folder / "curve.svg" not in tables.pages(folder / "page.md", folder)
    points = [CurvePoint(epoch=epoch, clean=0.5, pgd_10=0.1 * epoch) for epoch in (1, 2)]
    save_result(folder / "cifar10" / "a-0.json", make_result(name="a").model_copy(update={"curve": points}))
    drawn = page(folder, "curve.svg")
    names = [element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"a, seed 0", "resnet18, pgd_at, published"} <= set(names)
    assert "a, seed 0: 20.0 % after epoch 2; resnet18, pgd_at, published: 22.0 % after epoch 2" in drawn
    assert "(curve.svg)" in page(folder)


def test_the_pages_are_written_and_checked(folder: Path):
    readme = folder / "page.md"
    with pytest.raises(SystemExit) as stopped:
        tables.main(readme, folder, check=True)
    assert stopped.value.code == 1 and "old" in readme.read_text() and not (folder / "README.md").exists()
    tables.main(readme, folder, check=False)
    text = readme.read_text()
    assert text.startswith(f"before\n{tables.BEGIN}\n| method |") and text.endswith(f"{tables.END}\nafter\n")
    tables.main(readme, folder, check=True)
    save_result(folder / "cifar10" / "pgd_at-1.json", make_result(seed=1))
    with pytest.raises(SystemExit):
        tables.main(readme, folder, check=True)


@pytest.mark.parametrize(
    "text", ["no markers", f"{tables.END}\n{tables.BEGIN}", f"{tables.BEGIN}\n{tables.BEGIN}\n{tables.END}"]
)
def test_a_page_without_its_markers_is_refused(text: str):
    with pytest.raises(HallmarkError, match=r"README\.md: must hold the lines"):
        tables.fill(text, "x", "README.md")


def test_the_pages_say_what_the_results_say():
    """Write them again with `python -m pipeline.experiments.tables`."""
    for path, content in tables.pages(ROOT / "README.md", ROOT / "results").items():
        assert path.read_text(encoding="utf-8") == content, path


def test_the_compare_page_has_every_row_and_pairs_what_met_the_same_images(folder: Path):
    for seed in (0, 1):
        other = make_result("regmix", seed=seed, data="digits", name="regmix")
        save_result(folder / "compare-digits" / f"regmix-{seed}.json", other)
    shown = page(folder, "compare.html")
    assert shown.count("<tr data-row=") == 2 + 1 + 3  # two experiments, ours on CIFAR-10, the papers' rows
    pairs = json.loads(shown.split('id="pairs">')[1].partition("</script>")[0])
    assert list(pairs) == ["0-1"] and len(pairs["0-1"]) == 3  # two seeds, and over both
    assert "not ranked" not in shown and 'data-value="82.0">82.00<' in shown
    assert "https://" not in shown and "src=" not in shown
