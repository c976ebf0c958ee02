"""What the predicate says was not tested: it follows from what was run."""

from __future__ import annotations

from typing import Any

import pytest

from bundle.table.threats import Norm
from pipeline.attest import not_tested

EVERYTHING = ("autoattack", "square-onnx", "transfer-guide", "adaptive")
KNOWN, UNKNOWN = {"split": "validation"}, {"split": "unknown"}
GUIDED = {"network": {"guide": "resnet18"}}


def evidence(*attacks: str, norms: tuple[str, ...] = ("linf",), corruptions: Any = None) -> dict[str, Any]:
    return {
        "tier": "quick",
        "threats": [{"norm": norm} for norm in norms],
        "attacks": [{"name": name} for name in attacks],
        "corruptions": corruptions,
    }


@pytest.mark.parametrize(
    ("norms", "sentence"),
    [
        (("linf",), "perturbations in l2 and l1, and l-infinity radii that are not listed"),
        (("l1",), "perturbations in l-infinity and l2, and l1 radii that are not listed"),
        (("linf", "l2", "l2"), "perturbations in l1, and l-infinity and l2 radii that are not listed"),
        (("linf", "l2", "l1"), "l-infinity, l2 and l1 radii that are not listed"),
    ],
)
def test_norms_without_an_attack_are_named_and_no_others(norms: tuple[Norm, ...], sentence: str):
    found = not_tested(evidence(*EVERYTHING, norms=norms, corruptions={}), GUIDED, [{}], KNOWN)
    assert found[0] == sentence
    assert len(found) == 5, "beside it: spatial changes, poisoning, confidentiality, other distributions"


def test_attacks_of_another_kind_than_evasion_are_always_named():
    found = not_tested(evidence(*EVERYTHING, norms=("linf", "l2", "l1"), corruptions={}), GUIDED, [{}], KNOWN)
    said = " ".join(found)
    for attack in ("membership inference", "reconstruction", "extraction", "poisoned", "backdoors"):
        assert attack in said


@pytest.mark.parametrize(
    ("left_out", "word"),
    [
        ("autoattack", "AutoAttack"),
        ("square-onnx", "queries"),
        ("transfer-guide", "carried over"),
        ("adaptive", "adaptive"),
    ],
)
def test_an_attack_that_was_not_run_is_named(left_out: str, word: str):
    whole = not_tested(evidence(*EVERYTHING), GUIDED, [{}], KNOWN)
    found = not_tested(evidence(*(name for name in EVERYTHING if name != left_out)), GUIDED, [{}], KNOWN)
    assert [item for item in found if item not in whole] == [item for item in found if word in item]
    assert len(found) == len(whole) + 1


def test_what_a_model_has_no_part_of_is_not_asked_for():
    """Without a guide no adaptive attack is missing; corruptions, radii and training images are named where unknown."""
    found = not_tested(evidence(*EVERYTHING[:3]), {}, [], UNKNOWN)
    assert not any("adaptive" in item for item in found)
    for word in ("corruptions", "nothing was proved", "trained or chosen on"):
        assert any(word in item for item in found), word
        known = not_tested(evidence(*EVERYTHING[:3], corruptions={}), {}, [{}], KNOWN)
        assert not any(word in item for item in known), word
