"""Results: the same bytes again, and refusal of what contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.errors import HallmarkError
from bundle.numbers.intervals import clopper_pearson
from bundle.table.threats import Threat
from pipeline.experiments.result import Accuracy, Share, load_result, load_results, pack, save_result, unpack
from pipeline.experiments.verdicts import order_digest, seeded_order
from tests.pipeline.experiments.samples import make_result, rights


@pytest.mark.parametrize("images", [1, 7, 8, 9, 20])
def test_outcomes_survive_packing(images: int):
    right = np.random.default_rng(0).random(images) < 0.5
    assert (unpack(pack(right), images) == right).all()


@pytest.mark.parametrize("digits", ["", "ff", "ffffff", "zz", "fff"])
def test_digits_that_hold_other_outcomes_are_refused(digits: str):
    with pytest.raises(ValueError, match="right"):
        unpack(digits, 12)


def test_a_share_has_its_exact_interval():
    share = Share.of(rights(15)[0])
    assert (share.correct, share.n, share.share) == (15, 20, 0.75)
    assert tuple(share.interval) == clopper_pearson(15, 20)


def test_all_is_image_by_image_and_holds_the_clean_outcome():
    """Clean has images 0 to 9 right, the attacks 5 to 14 and 8 to 19: images 8 and 9 remain."""
    places = np.arange(20)
    accuracy = Accuracy.of(places < 10, {"linf-8": {"pgd-50": (places >= 5) & (places < 15), "margin": places >= 8}})
    assert np.flatnonzero(accuracy.threats["linf-8"]["all"].outcomes()).tolist() == [8, 9]
    assert accuracy.union is None


def test_all_is_about_the_images_that_every_attack_was_asked_of():
    places = np.arange(20)
    attacked = {
        "linf-8": {"pgd-50": places != 3, "autoattack": places[:8] != 5},
        "l2-0.5": {"pgd-50": places[:12] != 1},
    }
    accuracy = Accuracy.of(places > 0, attacked)
    assert {name: item["all"].n for name, item in accuracy.threats.items()} == {"linf-8": 8, "l2-0.5": 12}
    assert np.flatnonzero(accuracy.threats["linf-8"]["all"].outcomes()).tolist() == [1, 2, 4, 6, 7]
    assert accuracy.union is not None and np.flatnonzero(accuracy.union.outcomes()).tolist() == [2, 4, 6, 7]


def test_the_union_takes_the_first_radius_of_every_norm():
    places = np.arange(20)
    threats = {"linf-8": places < 12, "linf-16": places < 2, "l2-0.5": places >= 4, "l1-12": places >= 6}
    accuracy = Accuracy.of(places >= 0, {name: {"pgd-50": right} for name, right in threats.items()})
    assert accuracy.union is not None
    assert np.flatnonzero(accuracy.union.outcomes()).tolist() == list(range(6, 12))


def test_a_result_is_the_same_after_writing_and_reading(tmp_path: Path):
    result = make_result(threats=(Threat("linf", 8), Threat("linf", 16), Threat("l2", 0.5)))
    save_result(tmp_path / "a.json", result)
    assert load_result(tmp_path / "a.json") == result
    save_result(tmp_path / "b.json", load_result(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert [item.seed for item in load_results(tmp_path)] == [0, 0]


TEN_RIGHT = Share.of(rights(10)[0]).model_dump()


def attack(document: dict[str, Any], name: str = "pgd-50") -> dict[str, Any]:
    return document["accuracy"]["threats"]["linf-8"][name]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda document: document.pop("device"), "device: Field required"),
        (lambda document: document.update(extra=1), "extra: Extra inputs"),
        (lambda document: document.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda document: attack(document).update(correct=13), "correct says 13, and the outcomes in right say 12"),
        (lambda document: attack(document).update(share=0.61), "share and interval do not belong"),
        (lambda document: attack(document)["interval"].__setitem__(0, 0.5), "share and interval do not belong"),
        (
            lambda document: [document["accuracy"]["threats"]["linf-8"].pop(name) for name in ("margin", "margin-20")],
            "are not what the attacks' outcomes",
        ),
        (lambda document: document["accuracy"].update(clean=TEN_RIGHT), "are not what the attacks' outcomes"),
        (lambda document: document["sample"].update(size=21), "clean must be of the sample's 21 images"),
        (lambda document: document["sample"].update(limits={"margin": 10}), "settings_sha256 is not the digest"),
        (lambda document: document["settings"].update(threads=2), "settings_sha256 is not the digest"),
        (lambda document: document["threats"].append(Threat("l2", 1).describe()), "accuracy.threats must hold"),
        (lambda document: document["digests"].update(weights="abc"), "must be a SHA-256"),
    ],
)
def test_a_damaged_result_is_refused_in_a_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], sentence: str
):
    save_result(path := tmp_path / "a.json", make_result())
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(HallmarkError) as refused:
        load_result(path)
    assert sentence in str(refused.value) and str(refused.value).startswith(str(path))


@pytest.mark.parametrize("content", ["", "[]", "{", "NaN"])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(HallmarkError, match=r"a\.json: "):
        load_result(tmp_path / "a.json")
    with pytest.raises(HallmarkError, match="there is no such result"):
        load_result(tmp_path / "b.json")


def test_the_order_is_fixed_for_ever():
    """Another order would make results of before and after incomparable."""
    assert seeded_order(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert sorted(seeded_order(1000, 3).tolist()) == list(range(1000))
    assert seeded_order(1000, 3).tolist() != seeded_order(1000, 4).tolist()
    assert order_digest(seeded_order(10000, 0)).startswith("0d56e5a45cb289c9")
