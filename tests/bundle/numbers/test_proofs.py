"""Proved radii beside attacks: bounds, brackets and contradictions, on tables whose rows are written down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bundle.numbers.intervals import clopper_pearson
from bundle.numbers.proofs import brackets, broken_radii, check_proofs, contradiction, proof_bounds
from bundle.table.outcomes import SETTINGS, OutcomeError, Outcomes
from tests.bundle.tables import attack_columns, clean_columns

LABELS = np.array([0, 1, 0, 1, 0])
PROOF = {"name": "served-linf", "norm": "linf", "technique": "CROWN", "eps_255": [2.0, 4.0, 8.0]}


def predicate(**radii: float) -> dict[str, Any]:
    """Threats by name with one attack each."""
    threats = [
        {"name": name.replace("_", "-"), "norm": name.split("_")[0], "eps_255" if "linf" in name else "eps": size}
        for name, size in radii.items()
    ]
    return {"threats": threats, "attacks": [{"threat": t["name"], "name": "pgd"} for t in threats], "proofs": [PROOF]}


def table(proved: list[float], clean: Any = LABELS, **broken: Any) -> Outcomes:
    """`broken`: SETTING__THREAT=[…]; settings that are not given are unbroken."""
    columns: dict[str, Any] = {"index": 10 + np.arange(len(LABELS)), "label": LABELS, "proved/linf/eps_255": proved}
    for setting in SETTINGS:
        columns |= clean_columns(setting, np.asarray(clean))
    for name in {key.split("__")[1] for key in broken}:
        for setting in SETTINGS:
            verdicts = broken.get(f"{setting}__{name}", [False] * len(LABELS))
            columns |= attack_columns(f"{setting}/{name.replace('_', '-')}/pgd", LABELS, verdicts)
    return Outcomes(columns)


def test_certified_accuracy_is_the_share_proved_at_least_so_far():
    bounds = proof_bounds(table([0.0, 2.0, 3.75, 4.0, 9.0]), PROOF)
    assert [bound["correct"] for bound in bounds] == [4, 2, 1]
    assert [bound["eps_255"] for bound in bounds] == [2.0, 4.0, 8.0]
    assert bounds[1] == {
        "metric": "certified_accuracy", "classifier": "served", "norm": "linf", "eps_255": 4.0, "technique": "CROWN",
        "bound": "lower", "value": 0.4, "correct": 2, "sampleSize": 5, "interval": list(clopper_pearson(2, 5)),
        "confidence": 0.95,
    }  # fmt: skip


def test_an_image_of_which_nothing_is_proved_is_not_certified_at_radius_zero_either():
    (bound,) = proof_bounds(table([0.0, 0.0, 1.0, 0.0, 0.0]), {**PROOF, "eps_255": [0.0]})
    assert bound["correct"] == 1


def test_a_table_without_the_column_is_named():
    with pytest.raises(OutcomeError, match="proved/linf/eps_255"):
        proof_bounds(Outcomes({"index": [0], "label": [0]}), PROOF)


def test_broken_from_the_smallest_radius_in_either_setting():
    outcomes = table(
        [0.0] * 5,
        clean=[0, 1, 0, 1, 1],
        reference__linf_4=[True, False, False, False, True],
        reference__linf_8=[True, True, False, False, True],
        served__linf_8=[False, False, True, False, True],
    )
    wanted = predicate(linf_8=8.0, linf_4=4.0)
    assert broken_radii(outcomes, wanted).tolist() == [4, 8, 8, np.inf, 0]


def test_the_bracket_counts_proved_broken_and_neither_at_every_radius():
    outcomes = table(
        [0.0, 4.0, 8.0, 2.0, 0.0],
        clean=[0, 1, 0, 1, 1],
        reference__linf_4=[True, False, False, False, True],
        reference__linf_8=[True, True, False, False, True],
    )
    (bracket,) = brackets(outcomes, predicate(linf_8=8.0, linf_4=4.0))
    assert bracket["undecided"] == [
        {"eps_255": 4.0, "proved": 2, "broken": 2, "neither": 1},
        {"eps_255": 8.0, "proved": 1, "broken": 3, "neither": 1},
    ]
    assert bracket["proved"] == {"10": 0.0, "25": 0.0, "50": 2.0, "75": 4.0, "90": 8.0}
    assert bracket["broken"] == {"10": 0.0, "25": 4.0, "50": 8.0, "75": None, "90": None}
    assert (bracket["norm"], bracket["sampleSize"]) == ("linf", 5)


def test_other_norms_do_not_enter_the_bracket_and_no_proof_gives_none():
    outcomes = table([1.0] * 5, reference__l2_1=[True] * 5)
    (bracket,) = brackets(outcomes, predicate(l2_1=1.0))
    assert bracket["undecided"] == [] and set(bracket["broken"].values()) == {None}
    assert brackets(outcomes, {**predicate(l2_1=1.0), "proofs": []}) == []


@pytest.mark.parametrize(
    ("proved", "setting", "broken", "found"),
    [
        (8.0, "reference", True, [11]),
        (8.0, "served", True, [11]),
        (7.75, "reference", True, []),
        (9.0, "reference", False, []),
    ],
)
def test_a_contradiction_is_an_image_proved_where_it_was_broken(proved: float, setting: str, broken: bool, found: list):
    verdicts = [False, broken, False, False, False]
    outcomes = table([0.0, proved, 0.0, 0.0, 0.0], **{f"{setting}__linf_8": verdicts})
    assert contradiction(outcomes, predicate(linf_8=8.0)).tolist() == found


def test_on_the_grid_an_attack_moves_whole_levels():
    """8.5/255 admits 8 levels: proved at 8 and broken there cannot both be, though 8 is below 8.5."""
    verdicts = [True, False, False, False, False]
    assert contradiction(table([8.0, 0, 0, 0, 0], served__linf_9=verdicts), predicate(linf_9=8.5)).tolist() == [10]
    assert not len(contradiction(table([8.0, 0, 0, 0, 0], reference__linf_9=verdicts), predicate(linf_9=8.5)))


def test_an_attack_in_l2_contradicts_a_proof_in_linf():
    """An image within 0.02 in l2 is within 5.1/255 in l-infinity."""
    verdicts = [True, True, False, False, False]
    outcomes = table([5.0, 5.25, 0, 0, 0], reference__l2_1=verdicts)
    assert contradiction(outcomes, predicate(l2_1=0.02)).tolist() == [11]


def test_a_proved_image_that_is_wrong_without_an_attack_is_a_contradiction():
    outcomes = table([0.25, 0.0, 0, 0, 0], clean=[1, 0, 0, 1, 0], reference__linf_8=[False] * 5)
    assert contradiction(outcomes, predicate(linf_8=8.0)).tolist() == [10]
    with pytest.raises(OutcomeError, match=r"image 10 is proved at a radius at which an attack broke it$"):
        check_proofs(outcomes, predicate(linf_8=8.0))


def test_contradictions_are_counted():
    outcomes = table([0.25, 0.5, 0.25, 0, 0], clean=[1, 0, 1, 0, 0], reference__linf_8=[False] * 5)
    assert contradiction(outcomes, predicate(linf_8=8.0)).tolist() == [10, 11, 12]
    with pytest.raises(OutcomeError, match=r"^image 10 is .* broke it, and so are 2 others$"):
        check_proofs(outcomes, predicate(linf_8=8.0))


@pytest.mark.parametrize("wrong", [-0.25, np.nan, np.inf, 256.0])
def test_radii_that_cannot_be_are_refused(wrong: float):
    outcomes = table([wrong, 0, 0, 0, 0], reference__linf_8=[False] * 5)
    with pytest.raises(OutcomeError, match="must be 0 to 255"):
        check_proofs(outcomes, predicate(linf_8=8.0))


def test_an_honest_table_passes():
    check_proofs(table([7.75, 9.0, 0, 0, 0], reference__linf_8=[True, False, True, True, True]), predicate(linf_8=8.0))
