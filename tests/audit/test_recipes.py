"""Recipes over seeds, on synthetic tables with known shares; and the command, on bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.recipes import Recipes
from bundle.bundle import Bundle
from bundle.gate.pairing import PairingError
from bundle.numbers.intervals import seeds_interval, welch_interval
from bundle.table.outcomes import SETTINGS, Outcomes
from tests.bundles import make_bundle

IMAGES = 400


def model(seed: int, robust: float, method: str = "trades", rows: int = IMAGES, reliable: bool = True) -> Bundle:
    """A model that has a random `robust` share of the images right at linf-8, three in four at l2-0.5, all when clean."""
    generator = np.random.default_rng((seed, round(1000 * robust)))
    columns: dict[str, Any] = {
        "index": np.arange(rows),
        "label": np.zeros(rows, np.int64),
        "image_sha256": [f"{number:064x}" for number in range(rows)],
    }
    broken = generator.random(rows) >= robust
    for setting in SETTINGS:
        columns[f"{setting}/clean/prediction"] = np.zeros(rows, np.int64)
        columns[f"{setting}/linf-8/pgd-10/broken"] = broken
        columns[f"{setting}/l2-0.5/pgd-10/broken"] = np.arange(rows) % 4 == 0
    threats = [
        {"name": "linf-8", "norm": "linf", "eps_255": 8.0, "levels": 8},
        {"name": "l2-0.5", "norm": "l2", "eps": 0.5, "levels": 16256},
    ]
    met = {"name": "pgd-10", "harness": {"name": "hallmark"}, "settings": {"seed": seed}}
    attacks = [{"threat": item["name"], **met} for item in threats]
    predicate = {
        "data": {"name": "synthetic", "classes": ["0"], "splits": {}},
        "threats": threats,
        "unions": [{"name": "union", "threats": [item["name"] for item in threats]}],
        "attacks": attacks,
        "parameters": {"seed": seed, "method": {"name": method}, "threat": {"norm": "linf", "eps_255": 8.0}},
        "reliable": reliable,
    }
    digest = f"{seed:04d}{round(1000 * robust):04d}" * 8
    statement = {"subject": [{"digest": {"sha256": digest}}], "predicate": predicate}
    folder = Path(f"{method}-{seed}")
    return Bundle(folder, statement, b"", b"", b"", Outcomes(columns), {}, None)


def side(seeds: range, robust: float, method: str = "trades") -> list[Bundle]:
    return [model(seed, robust, method) for seed in seeds]


def test_equal_recipes_over_five_seeds_are_not_distinguishable() -> None:
    found = Recipes(side(range(5), 0.50), side(range(5), 0.501, "mart"))
    assert found.sentence().startswith("Recipe B is not distinguishable from recipe A: ")
    assert found.describe()["verdict"] == "not distinguishable"


def test_a_clear_difference_over_five_seeds_is_better_and_swapped_is_worse() -> None:
    weak, strong = side(range(5), 0.05, "none"), side(range(5), 0.45, "pgd_at")
    found = Recipes(weak, strong)
    assert found.sentence().startswith("Recipe B is better than recipe A: +")
    assert "the mean over 5 seeds of paired differences" in found.sentence()
    assert found.describe()["changed"] == [{"setting": "method.name", "a": "none", "b": "pgd_at"}]
    assert Recipes(strong, weak).sentence().startswith("Recipe B is worse than recipe A: −")


def test_a_union_counts_an_image_only_where_every_threat_does() -> None:
    found = Recipes(side(range(3), 0.05, "none"), side(range(3), 0.45, "pgd_at"))
    (union,) = [item for item in found.spreads if (item.setting, item.threat) == ("served", "union")]
    (linf,) = [item for item in found.spreads if (item.setting, item.threat) == ("served", "linf-8")]
    rows = np.arange(IMAGES) % 4 != 0
    expected = [float((~item.outcomes["served/linf-8/pgd-10/broken"] & rows).mean()) for item in found.b]
    assert list(union.values_b) == expected and union.values_b < linf.values_b


def test_equal_recipes_are_called_different_about_as_often_as_the_interval_allows() -> None:
    """Of 60 comparisons of a recipe with itself, 5 % would be 3; ten or more would be an interval that is too narrow."""
    wrong = 0
    for number in range(60):
        seeds = range(10 * number, 10 * number + 5)
        wrong += Recipes(side(seeds, 0.500), side(seeds, 0.501, "other")).describe()["verdict"] != "not distinguishable"
    assert wrong < 10


def test_seeds_that_both_sides_have_pair_and_others_do_not() -> None:
    a, b = side(range(3), 0.4), side(range(3), 0.5, "mart")
    paired = Recipes(list(reversed(a)), b)
    assert paired.deciding is not None
    shares = [[float((~item.outcomes["served/linf-8/pgd-10/broken"]).mean()) for item in group] for group in (a, b)]
    differences = [second - first for first, second in zip(*shares, strict=True)]
    assert paired.deciding.interval == pytest.approx(seeds_interval(differences))
    others = side(range(7, 10), 0.5, "mart")
    unpaired = Recipes(a, others)
    assert unpaired.deciding is not None
    shares[1] = [float((~item.outcomes["served/linf-8/pgd-10/broken"]).mean()) for item in others]
    assert unpaired.deciding.interval == pytest.approx(welch_interval(*shares))
    assert "3 seeds of A and 3 of B, which do not pair" in unpaired.sentence()


@pytest.mark.parametrize(("a", "b"), [(2, 5), (5, 2), (1, 1)])
def test_fewer_than_three_seeds_are_not_ranked(a: int, b: int) -> None:
    found = Recipes(side(range(a), 0.05), side(range(b), 0.9, "mart"))
    assert found.sentence().startswith(
        f"Not ranked: a comparison of recipes needs at least 3 seeds per side, there are {a}"
    )
    assert found.describe()["verdict"] is None


def test_a_side_that_is_not_one_recipe_is_refused() -> None:
    good = side(range(3), 0.5)
    with pytest.raises(PairingError, match=r"are not one recipe, since method\.name differ"):
        Recipes([*good[:2], model(2, 0.5, "mart")], good)
    with pytest.raises(PairingError, match="are of the same seed; one seed counts once"):
        Recipes(good, [good[0], good[1], model(1, 0.6)])
    with pytest.raises(PairingError, match="are of the same model"):
        Recipes(good, [good[0], good[1], good[1]])


def test_unreliable_models_and_images_left_out_are_said() -> None:
    a = [*side(range(2), 0.5), model(2, 0.5, reliable=False)]
    b = [*side(range(2), 0.5, "mart"), model(2, 0.5, "mart", rows=300)]
    found = Recipes(a, b)
    assert found.images == 300
    cautions = " ".join(found.cautions())
    assert f"Recipe A has unreliable models, whose sanity checks failed: {a[2].version}." in cautions
    assert "Images that not every model has are left out." in cautions


@pytest.mark.parametrize(("threat", "told"), [("linf-8", True), ("l2-0.5", False)])
def test_an_attack_that_not_all_met_is_told_where_it_decides(threat: str, told: bool) -> None:
    a, b = side(range(3), 0.5), side(range(3), 0.5, "mart")
    attacks = a[1].predicate["attacks"]
    attacks.append({**attacks[0], "threat": threat, "name": "fab"})
    assert any("The attacks are not the same" in sentence for sentence in Recipes(a, b).cautions()) == told


def test_the_command_takes_two_lists(tmp_path: Path) -> None:
    sides = [
        [
            str(make_bundle(tmp_path / f"{noise}-{seed}", seed=seed, noise=noise, rows=40, tier="quick"))
            for seed in (1, 2, 3)
        ]
        for noise in (2.0, 0.1)
    ]
    dashes = CliRunner().invoke(app, ["diff", "--recipes", *sides[0], "--", *sides[1]])
    commas = CliRunner().invoke(app, ["diff", "--recipes", ",".join(sides[0]), ",".join(sides[1])])
    assert (dashes.exit_code, dashes.stdout) == (0, commas.stdout)
    assert dashes.stdout.startswith("Recipe B is better than recipe A: +")
    assert "Settings that changed: none" in dashes.stdout  # noise is no setting of theirs
    few = json.loads(CliRunner().invoke(app, ["diff", "--recipes", sides[0][0], sides[1][0], "--json"]).stdout)
    assert (few["verdict"], few["sentence"][:10]) == (None, "Not ranked")
    without = CliRunner().invoke(app, ["diff", *sides[0], "--", *sides[1]])
    assert without.exit_code == 1
    assert "give --recipes" in without.stderr
