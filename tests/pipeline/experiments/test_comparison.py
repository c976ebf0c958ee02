"""The comparison: means over seeds, intervals with one seed, paired gains, the table and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from bundle.numbers.intervals import paired_difference
from bundle.table.threats import Threat
from pipeline.experiments.comparison import MethodComparison
from pipeline.experiments.scatter import BOTTOM, LINE, TOP, scatter, spread_apart
from tests.pipeline.experiments.samples import make_result, rights


def test_several_seeds_give_mean_and_standard_deviation():
    results = [make_result(seed=seed, counts=(18, 12, margin)) for seed, margin in enumerate((10, 11, 12))]
    (row,) = MethodComparison(results).rows()
    assert row.robust.say() == "55.0 ± 5.0" and row.margin.say() == "55.0 ± 5.0"
    assert row.clean.say() == "90.0 ± 0.0" and row.seeds == (0, 1, 2)


def test_one_seed_gives_the_interval_over_images():
    (row,) = MethodComparison([make_result()]).rows()
    assert row.robust.say() == "55.0 [31.5, 76.9]" and row.robust.deviation is None


def test_the_most_robust_method_comes_first():
    results = [make_result("standard", counts=(20, 2, 1)), make_result("trades", counts=(17, 14, 13))]
    assert [row.name for row in MethodComparison(results).rows()] == ["trades", "standard"]


def test_gains_pair_the_same_seed_image_by_image():
    results = [
        make_result("standard", 0, counts=(20, 2, 1)),
        make_result("trades", 0, counts=(17, 14, 13)),
        make_result("trades", 1),
    ]
    (line,) = MethodComparison(results).gains()
    floor, ours = rights(1, 13)
    gain = paired_difference(floor, ours)
    assert line.startswith("trades (seed 0) minus no defence, all attacks: +60.0%")
    assert f"[{gain.interval[0]:+.1%}, {gain.interval[1]:+.1%}], 12 images won, 0 lost of 20" in line


def test_the_table_says_what_is_reconstructed():
    comparison = MethodComparison([make_result("regmix"), make_result("pgd_at")])
    table = comparison.markdown()
    assert table.splitlines()[0] == ("| method | clean | PGD-50 | margin | all attacks | training | passes per step |")
    assert "| RegMix-AGR, reconstructed | 90.0 [68.3, 98.8] |" in table
    assert "| PGD-AT | 90.0 [68.3, 98.8] | 60.0 [36.1, 80.9] | 55.0 [31.5, 76.9] | 55.0 [31.5, 76.9] |" in table
    assert "cifar10, l∞ 8/255, 20 of 40 test images" in comparison.conditions()
    assert "AutoAttack was not run" in comparison.caveat()


def test_several_norms_have_a_column_each_and_their_union_ranks():
    several = (Threat("linf", 8), Threat("l2", 0.5))
    comparison = MethodComparison([make_result("regmix", threats=several), make_result("pgd_at", threats=several)])
    heads, _, *rows = comparison.markdown().splitlines()
    assert "| margin | all attacks | all, l2 0.5 | union | training |" in heads
    assert len(rows) == 2 and all(row.count("|") == heads.count("|") for row in rows)
    assert "Union: right under every attack of every norm." in comparison.conditions()
    for row in comparison.rows():
        (run,) = (result for result in comparison.results if result.name == row.name)
        assert row.judged().mean == run.accuracy.union.share
    alone = MethodComparison([make_result("regmix", threats=several), make_result("pgd_at")])
    assert "union" not in alone.markdown()


def test_the_threat_that_all_were_trained_for_ranks_and_not_the_smallest_radius():
    attacked = (Threat("linf", 4), Threat("linf", 8), Threat("linf", 16))
    results = [make_result(method, threats=attacked, trained=Threat("linf", 8)) for method in ("trades", "pgd_at")]
    assert MethodComparison(results).threat == Threat("linf", 8)
    specialists = [results[0], make_result("pgd_at", threats=attacked, trained=Threat("linf", 16))]
    assert MethodComparison(specialists).threat == Threat("linf", 4), "the first that all met, where they share none"


def test_differences_pair_seeds_and_have_an_interval_over_them():
    results = [make_result("trades", seed, counts=(18, 15, right)) for seed, right in enumerate((13, 14, 15))]
    results += [make_result("pgd_at", seed, counts=(18, 15, 11)) for seed in range(3)]
    *seeds, over = MethodComparison(results).differences("trades")
    assert [line.partition(":")[0] for line in seeds] == [f"trades minus pgd_at, seed {seed}" for seed in range(3)]
    assert "+10.0%" in seeds[0] and "2 images won, 0 lost of 20" in seeds[0]
    # Mean 15, standard deviation 5: Student's 4.303 with two degrees of freedom, times 5/sqrt(3).
    assert over == "trades minus pgd_at, 3 seeds: +15.0% [+2.6%, +27.4%]"


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs results"):
        MethodComparison([])


def test_the_picture_is_whole_and_holds_every_number():
    results = [make_result("standard", counts=(20, 2, 1)), make_result("trades", counts=(17, 14, 13)), make_result()]
    picture = scatter(MethodComparison(results).rows(), "cifar10")
    tree = ElementTree.fromstring(picture)
    assert tree.tag.endswith("svg") and len(tree.findall(".//{*}circle")) == 2
    assert "No defence: clean 100.0" in picture and "TRADES: clean 85.0" in picture


def test_names_stand_apart_and_inside():
    places = spread_apart([290.0] * 13)
    assert all(b - a >= LINE - 1e-9 for a, b in pairwise(places))
    assert places[0] >= TOP and places[-1] <= BOTTOM + 1e-9


@pytest.mark.parametrize("right", [0, 10, 20])
def test_methods_that_agree_exactly_can_be_drawn(right: int):
    """Over several seeds the spread may be nothing, at the ends of the axis too."""
    results = [make_result(method, seed, counts=(right,) * 3) for method in ("trades", "pgd_at") for seed in (0, 1)]
    assert "nan" not in scatter(MethodComparison(results).rows(), "cifar10")
