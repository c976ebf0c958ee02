"""claims() on a table of eight images whose numbers are worked out by hand, and on random tables."""

from typing import Any

import numpy as np
import pytest

from bundle.numbers.claims import ALL_ATTACKS, KINDS, claims, find_claim
from bundle.table.outcomes import OutcomeError, Outcomes
from tests.bundle.tables import attack_columns, clean_columns

SETTINGS: dict[str, Any] = {
    "data": {"classes": ["zero", "one", "two"]},
    "unions": [],
    "corruptions": None,
    "distances": [],
    "threats": [{"name": "linf-8", "norm": "linf", "eps_255": 8}],
    "attacks": [{"threat": "linf-8", "name": "pgd-10"}, {"threat": "linf-8", "name": "margin"}],
    "proofs": [],
    "smoothing": [
        {"name": "smoothed-0.25", "sigma": 0.25, "estimation": 100, "alpha": 0.001, "radii": [0.0, 0.25, 0.5]}
    ],
}


def small_table() -> Outcomes:
    """Eight images of class 0 or 1; image 7 is wrong when clean, and no attack is said to break it."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    predictions = np.array([0, 0, 0, 0, 1, 1, 1, 0])
    columns: dict[str, Any] = {"label": labels}
    for setting in ("reference", "served"):
        columns |= clean_columns(setting, predictions)
        columns |= attack_columns(f"{setting}/linf-8/pgd-10", labels, [1, 1, 0, 0, 0, 0, 0, 0])
        columns |= attack_columns(f"{setting}/linf-8/margin", labels, [0, 1, 1, 1, 0, 0, 0, 0])
    columns |= attack_columns("served/linf-8/margin", labels, [0, 0, 0, 1, 0, 0, 0, 0])
    columns["smoothed-0.25/selected"] = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    columns["smoothed-0.25/successes"] = np.array([100, 100, 90, 100, 60, 99, 80, 100])
    return Outcomes(columns)


def shares(setting: str) -> dict[str, int]:
    found = claims(small_table(), SETTINGS)
    return {
        attack: find_claim(found, "robust_accuracy", setting=setting, attack=attack)["correct"]  # type: ignore[index]  # None would fail here
        for attack in ("pgd-10", "margin", ALL_ATTACKS)
    }


def test_clean_accuracy_is_seven_of_eight_with_its_exact_interval() -> None:
    claim = find_claim(claims(small_table(), SETTINGS), "clean_accuracy", setting="served")
    assert claim is not None
    assert (claim["value"], claim["correct"], claim["sampleSize"], claim["bound"]) == (0.875, 7, 8, "exact")
    assert claim["interval"] == pytest.approx([0.47349, 0.99684], abs=1e-5)  # tables of Clopper-Pearson, 7 of 8
    assert claim["confidence"] == 0.95


def test_robust_accuracy_is_joined_image_by_image_and_not_averaged() -> None:
    """pgd-10 leaves images 2 to 6 (5), margin 0 and 4 to 6 (4): together 4 to 6 are left (3); the mean would be 4.5."""
    assert shares("reference") == {"pgd-10": 5, "margin": 4, ALL_ATTACKS: 3}


def test_a_claim_repeats_its_threats_radius_in_its_own_unit() -> None:
    ball = {"name": "linf-8", "norm": "l2", "eps": 0.5}
    for threat in (SETTINGS["threats"][0], ball):
        claim = find_claim(claims(small_table(), {**SETTINGS, "threats": [threat]}), "robust_accuracy")
        assert claim is not None
        kept = {key: claim[key] for key in ("norm", "eps_255", "eps") if key in claim}
        assert kept == {key: value for key, value in threat.items() if key != "name"}


def test_settings_are_not_mixed() -> None:
    """In the served setting margin breaks image 3 alone: 6 are left, and 4 under both."""
    assert shares("served") == {"pgd-10": 5, "margin": 6, ALL_ATTACKS: 4}


def test_an_image_that_is_wrong_when_clean_is_not_robust() -> None:
    """Image 7 is broken by no attack and still counts against every robust accuracy."""
    robust = small_table().robust("served", "linf-8", ["pgd-10", "margin"])
    assert robust.tolist() == [False, False, True, False, True, True, True, False]


def test_certified_accuracy_counts_right_answers_whose_radius_reaches() -> None:
    """Of the counts 100, 100, 90, (100 wrong), 60, 99, 80, (100 wrong): 60 abstains, and radii are worked out below.

    With alpha 0.001 of 100 samples: 100 proves p ≥ 0.001^(1/100) = 0.9333, that is radius 0.25 · 1.501 = 0.3752;
    99 proves 0.9090 (0.334), 90 proves 0.7761 (0.190), 80 proves 0.6503 (0.097).
    """
    bounds = claims(small_table(), SETTINGS)["bounds"]
    certified = {item["radius"]: item["correct"] for item in bounds if item["metric"] == "certified_accuracy"}
    assert certified == {0.0: 5, 0.25: 3, 0.5: 0}
    average = next(item for item in bounds if item["metric"] == "average_certified_radius")
    assert average["value"] == pytest.approx((2 * 0.3752 + 0.190 + 0.334 + 0.097) / 8, abs=1e-3)
    assert {(item["bound"], item["classifier"], item["norm"]) for item in bounds} == {("lower", "smoothed-0.25", "l2")}


def test_claims_name_what_they_are_keyed_by() -> None:
    found = claims(small_table(), SETTINGS)["claims"]
    assert [(item["setting"], item["metric"], item.get("attack")) for item in found] == [
        (setting, *rest)
        for setting in ("reference", "served")
        for rest in (
            ("clean_accuracy", None),
            ("robust_accuracy", "pgd-10"),
            ("robust_accuracy", "margin"),
            ("robust_accuracy", "all"),
        )
    ]
    assert {item["bound"] for item in found if item["metric"] == "robust_accuracy"} == {"upper"}


def random_table(seed: int) -> tuple[Outcomes, list[str]]:
    generator = np.random.default_rng(seed)
    rows, attacks = int(generator.integers(1, 40)), [f"attack-{number}" for number in range(generator.integers(1, 5))]
    labels = generator.integers(0, 3, rows)
    columns: dict[str, Any] = {"label": labels}
    for setting in ("reference", "served"):
        columns |= clean_columns(setting, generator.integers(0, 3, rows))
        for attack in attacks:
            broken = generator.random(rows) < generator.random()
            columns |= attack_columns(f"{setting}/linf-8/{attack}", labels, broken, classes=3)
    return Outcomes(columns), attacks


@pytest.mark.parametrize("seed", range(25))
def test_no_claim_for_all_attacks_is_above_any_attacks_claim_or_the_clean_one(seed: int) -> None:
    table, attacks = random_table(seed)
    settings = {**SETTINGS, "attacks": [{"threat": "linf-8", "name": name} for name in attacks], "smoothing": []}
    found = claims(table, settings)["claims"]
    for setting in ("reference", "served"):
        values = {item.get("attack", "clean"): item["value"] for item in found if item["setting"] == setting}
        assert values[ALL_ATTACKS] == min(values.values())
        for item in found:
            assert item["interval"][0] <= item["value"] <= item["interval"][1]


def test_a_threat_without_an_attack_has_no_robust_accuracy() -> None:
    """Otherwise clean accuracy would stand there under the name of robust accuracy."""
    with pytest.raises(OutcomeError, match="linf-8: no attack was run"):
        claims(small_table(), {**SETTINGS, "attacks": []})


def test_a_missing_column_is_named() -> None:
    table = small_table()
    del table.columns["served/linf-8/margin/broken"]
    with pytest.raises(OutcomeError, match="has no column served/linf-8/margin/broken"):
        claims(table, SETTINGS)


def test_find_claim_says_none_where_nothing_was_claimed() -> None:
    assert find_claim(claims(small_table(), SETTINGS), "robust_accuracy", threat="linf-9") is None


def with_l2(table: Outcomes, broken: list[int]) -> tuple[Outcomes, dict[str, Any]]:
    """The table with another threat and a union of the two."""
    columns: dict[str, Any] = {}
    for setting in ("reference", "served"):
        columns |= attack_columns(f"{setting}/l2-0.5/margin", table["label"], broken)
    settings = {
        **SETTINGS,
        "threats": [*SETTINGS["threats"], {"name": "l2-0.5", "norm": "l2", "eps": 0.5}],
        "attacks": [*SETTINGS["attacks"], {"threat": "l2-0.5", "name": "margin"}],
        "unions": [{"name": "union", "threats": ["l2-0.5", "linf-8"]}],
    }
    return table.with_columns(columns), settings


def test_a_union_counts_the_images_that_are_right_under_every_threat() -> None:
    """Served: linf-8 leaves 2, 4, 5, 6 and l2-0.5 leaves 0 to 4: together 2 and 4. The least of the two would be 4."""
    table, settings = with_l2(small_table(), [0, 0, 0, 0, 0, 1, 1, 0])
    found = claims(table, settings)
    claim = find_claim(found, "robust_accuracy", setting="served", threat="union")
    assert claim is not None
    assert (claim["correct"], claim["attack"], claim["norm"], claim["bound"]) == (2, ALL_ATTACKS, "union", "upper")
    assert not {"eps", "eps_255"} & claim.keys()
    assert found["claims"][-1] == claim  # after the threats of its setting


def test_every_kind_of_number_is_there() -> None:
    assert tuple(claims(small_table(), SETTINGS)) == KINDS
