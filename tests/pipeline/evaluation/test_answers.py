"""Clean answers before any attack: chance is not attested as accuracy, and an order of classes that is another is named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipeline.evaluation.sanity.answers import (
    ALPHA,
    above_chance,
    answer_checks,
    best_order,
    class_order,
    confusion,
    data_checks,
)

Labels = NDArray[np.int64]
NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"]


def balanced(classes: int, each: int) -> Labels:
    return np.repeat(np.arange(classes), each)


def wrong(labels: Labels, rows: NDArray[np.int64], classes: int) -> Labels:
    """Answers that are right but in these rows."""
    answers = labels.copy()
    answers[rows] = (answers[rows] + 1 + rows % (classes - 1)) % classes
    return answers


def test_the_bound_is_that_of_the_exact_test():
    """31.7 % of five classes on 60 images is not above chance; on 600 it is, by little, and on 60 half of them is."""
    few, many = balanced(5, 12), balanced(5, 120)
    found = above_chance(few, wrong(few, np.arange(19, 60), 5))
    assert found["outcome"] == "fail" and "19 of 60" in found["meaning"] and "20.0%" in found["meaning"]
    again = above_chance(many, wrong(many, np.arange(190, 600), 5))
    assert again["outcome"] == "warn"
    exact = binomtest(190, 600, alternative="greater").proportion_ci(1 - ALPHA, "exact").low
    assert again["statistic"] == pytest.approx(exact - 0.2)
    assert above_chance(few, wrong(few, np.arange(36, 60), 5))["outcome"] == "pass"


def test_always_answering_the_largest_class_is_chance():
    """Nine in ten right, and nothing known: against 1/K it would look excellent."""
    labels = np.array([0] * 900 + [1] * 100)
    assert above_chance(labels, np.zeros(1000, np.int64))["outcome"] == "fail"
    assert above_chance(labels, labels)["statistic"] == pytest.approx(ALPHA ** (1 / 1000) - 0.9)


@pytest.mark.parametrize("accuracy", [1.0, 0.9, 0.6])
def test_two_swapped_classes_are_named_and_nobody_else(accuracy: float):
    labels = balanced(10, 40)
    answers = wrong(labels, np.arange(400)[np.arange(400) % 10 >= 10 * accuracy], 10)
    swapped = np.array([0, 1, 5, 3, 4, 2, 6, 7, 8, 9])[answers]
    assert class_order(labels, answers, NAMES)["statistic"] <= 0
    found = class_order(labels, swapped, NAMES)
    assert found["outcome"] == "fail"
    lost = (answers == labels).mean() - (swapped == labels).mean()
    assert f"gain ({lost:+.1%})" in found["meaning"] and 0.05 < found["statistic"] < lost
    said = found["meaning"].partition("another: ")[2]
    assert said.startswith("images of cat are answered fox, images of fox are answered cat; a warning above")


def test_every_class_in_another_order_is_found_with_few_images_each():
    """A hundred classes in the order of their names as text, 1, 10, 11, …, with six images each."""
    order = np.argsort(sorted(range(100), key=str))
    labels = balanced(100, 6)
    answers = wrong(labels, np.arange(0, 600, 4), 100)
    assert class_order(labels, order[answers], [str(k) for k in range(100)])["outcome"] == "fail"
    assert "classes more" in class_order(labels, order[answers], [str(k) for k in range(100)])["meaning"]
    assert class_order(labels, answers, [str(k) for k in range(100)])["outcome"] == "pass"


@pytest.mark.parametrize(("classes", "each"), [(10, 10), (100, 5), (200, 5), (2, 50)])
def test_noise_gains_nothing_however_few_the_images(classes: int, each: int):
    """Answers by chance: an assignment always fits them, and on images that it was not fitted to it fails."""
    labels, generator = balanced(classes, each), np.random.default_rng(0)
    names = [str(k) for k in range(classes)]
    for _ in range(20):
        answers = generator.integers(0, classes, len(labels))
        table = confusion(labels, answers, classes)
        assert table[np.arange(classes), best_order(table)].sum() >= np.trace(table)
        assert class_order(labels, answers, names)["outcome"] != "fail"
        assert above_chance(labels, answers)["outcome"] == "fail"


def test_an_order_that_gains_nothing_is_the_classes_own():
    table = np.zeros((4, 4), np.int64)
    assert best_order(table).tolist() == [0, 1, 2, 3]
    table[0, 1] = table[0, 0] = 3
    assert best_order(table).tolist() == [0, 1, 2, 3]


def test_labels_that_alternate_are_halved_within_each_class():
    labels = np.tile([0, 1], 100)
    assert "+100.0%" in class_order(labels, 1 - labels, ["a", "b"])["meaning"]
    assert [item["check"] for item in answer_checks(labels, labels, ["a", "b"])] == ["above_chance", "class_order"]


SPLITS = {"train": {"count": 1000}, "validation": {"count": 100}, "test": {"count": 200}}


@pytest.mark.parametrize(
    ("leakage", "outcomes"),
    [
        ({"test_images_also_in_train": 0}, {"copies": "pass"}),
        ({"test_images_also_in_train": 1}, {"copies": "warn"}),
        ({"test_images_also_in_train": 3}, {"copies": "fail"}),
        ({"test_images_near_train": 2}, {"near_copies": "pass"}),
        ({"test_images_near_train": 3}, {"near_copies": "warn"}),
        ({"test_images_near_train": 101}, {"near_copies": "fail"}),
        ({"two_labels": {"train": 0, "test": 0}}, {"two_labels": "pass"}),
        ({"two_labels": {"train": 10, "validation": 0, "test": 1}}, {"two_labels": "warn"}),
        ({"two_labels": {"train": 0, "validation": 2, "test": 0}}, {"two_labels": "fail"}),
        ({"test_images_also_in_train": 0, "repeated": {"test": 9}}, {"copies": "pass"}),
        ({}, {}),
    ],
)
def test_leaks_are_judged_as_shares_of_their_split(leakage: dict, outcomes: dict[str, str]):
    """What nobody counted is not judged; a bundle of before has the first count alone."""
    found = list(data_checks({"leakage": leakage, "splits": SPLITS}))
    assert {item["check"]: item["outcome"] for item in found} == outcomes
    assert list(data_checks({"splits": SPLITS})) == []
