"""Names and sentences that the report, the card and the command share."""

from __future__ import annotations

import pytest

from bundle.pages.headline import is_judge
from bundle.pages.wording import attack_label, attack_title, chosen_by, environment, listing, sample_scope


@pytest.mark.parametrize(
    ("name", "title", "judge"),
    [
        ("noise", "random noise", False),
        ("fgsm", "FGSM", False),
        ("pgd-10", "PGD-10", False),
        ("pgd-100-2", "PGD-100, run 2", False),
        ("pgd-10-seed-3", "PGD-10, seed 3", False),
        ("margin", "margin attack", True),
        ("margin-seed-2", "margin attack, seed 2", True),
        ("marginal", "marginal", False),
        ("autoattack", "AutoAttack", True),
        ("autoattack-plus", "AutoAttack plus", True),
        ("autoattack-rand", "AutoAttack rand", True),
        ("autoattack-seed-1", "AutoAttack, seed 1", True),
        ("autoattack-plus-seed-12", "AutoAttack plus, seed 12", True),
        ("transfer-guide", "transfer from the guide", False),
        ("transfer-peer_1", "transfer from the peer 1", False),
        ("transfer-guide-seed-1", "transfer from the guide, seed 1", False),
        ("adaptive", "adaptive (co-trained networks together)", False),
        ("square-onnx", "Square, queries on the served file", False),
        ("cw", "C&W", False),
        ("all", "all attacks", False),
        ("my-attack-2", "my-attack-2", False),
    ],
)
def test_every_attack_has_a_title(name: str, title: str, judge: bool) -> None:
    """An attack from an entry point keeps its own name, whatever that ends in."""
    assert (attack_title(name), is_judge(name)) == (title, judge)


def test_labels_fit_beside_an_axis() -> None:
    for name in ("adaptive", "square-onnx", "transfer-guide", "autoattack-seed-1", "autoattack-plus", "noise", "cw"):
        assert len(attack_label(name)) <= 19, name
    assert attack_label("transfer-guide-seed-1") == "from the guide, seed 1"


def test_lists_read_as_sentences() -> None:
    assert [listing(["a", "b", "c"][:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_the_whole_test_set_needs_no_word_about_a_sample() -> None:
    assert sample_scope({"size": 360, "of": 360}) == ""
    assert "200 of 360" in sample_scope({"size": 200, "of": 360})


def test_an_unknown_selection_names_no_epoch() -> None:
    assert chosen_by({"rule": "best", "split": "validation", "epoch": 3}) == "epoch 3: best"
    assert "not known" in chosen_by({"rule": "given", "split": "unknown"})


def test_installed_packages_are_told_as_their_number() -> None:
    installed = [{"name": "numpy", "version": "2.4.6"}, {"name": "rich", "version": "15.0.0"}]
    told = environment({"environment": {"python": "3.11", "installed": installed}})
    assert told == {"python": "3.11", "installed": "2 packages, listed in mlbom.cdx.json"}
    assert environment({"environment": {"python": "3.11"}}) == {"python": "3.11"}
