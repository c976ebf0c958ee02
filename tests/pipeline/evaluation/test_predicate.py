"""What the predicate says was not tested."""

from __future__ import annotations

import pytest

from bundle.threats import Norm
from pipeline.evaluation.predicate import _not_tested


@pytest.mark.parametrize(
    ("norms", "sentence"),
    [
        (["linf"], "perturbations in l2 and l1, and l-infinity radii that are not listed"),
        (["l1"], "perturbations in l-infinity and l2, and l1 radii that are not listed"),
        (["linf", "l2", "l2"], "perturbations in l1, and l-infinity and l2 radii that are not listed"),
        (["linf", "l2", "l1"], "l-infinity, l2 and l1 radii that are not listed"),
    ],
)
def test_norms_without_an_attack_are_named_and_no_others(norms: list[Norm], sentence: str):
    evidence = {"threats": [{"norm": norm} for norm in norms], "attacks": [{"name": "autoattack"}]}
    found = _not_tested({"settings": {"network": {"guide": None}}}, evidence)
    assert found[0] == sentence
    assert not any("AutoAttack" in item or "guide" in item for item in found)


def test_a_quick_tier_and_a_guide_are_named():
    evidence = {"threats": [{"norm": "linf"}], "attacks": [{"name": "margin"}]}
    found = _not_tested({"settings": {"network": {"guide": "resnet18"}}}, evidence)
    assert found[0] == "AutoAttack (the tier is quick)"
    assert found[-1] == "adaptive attacks that use the guide network"
