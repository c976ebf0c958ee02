"""Figures are well-formed, say their numbers in words, put marks where the numbers are, and keep text inside."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest

from bundle import figures
from bundle.svg import WIDTH, Scale, round_step, shortened

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<b>&"long class name that goes on'


def attack_figure() -> str:
    rows = [("clean", figures.share_of(58, 60), figures.share_of(58, 60))]
    return figures.by_attack([*rows, (HOSTILE, figures.share_of(30, 60), figures.share_of(0, 60))], "l∞ 8/255")


def eps_figure(threats: int = 3) -> str:
    series = [(4.0 * step, figures.share_of(60 - 20 * step, 60)) for step in range(threats + 1)]
    return figures.by_eps({"reference": series, "served": series})


def class_figure(classes: int = 3) -> str:
    return figures.by_class([figures.ClassShare(f"{HOSTILE} {index}", index % 5, 5, 5) for index in range(classes)])


def margin_figure() -> str:
    margins = np.array([-3.0, -0.1, 0.1, 0.2, 5.0])
    return figures.margin_histogram(margins, margins > 0)


def certified_figure() -> str:
    radii = np.array([0.0, 0.1, 0.5, 0.9])
    return figures.certified_curve([figures.Certified(sigma, radii * sigma, [0.0, 0.25]) for sigma in (0.25, 0.5)])


FIGURES = [attack_figure, eps_figure, class_figure, margin_figure, certified_figure]


@pytest.mark.parametrize("draw", FIGURES)
def test_figure_is_well_formed_and_described(draw: Callable[[], str]) -> None:
    root = ElementTree.fromstring(draw())
    assert root.get("role") == "img"
    labels = {element.get("id"): element.text for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")}
    assert set((root.get("aria-labelledby") or "").split()) == set(labels)
    assert all(labels.values())


@pytest.mark.parametrize("draw", FIGURES)
def test_figure_is_the_same_each_time_and_stays_inside(draw: Callable[[], str]) -> None:
    assert draw() == draw()
    root = ElementTree.fromstring(draw())
    height = float((root.get("viewBox") or "").split()[3])
    for element in root.iter():
        for name, limit in (("x", WIDTH), ("x1", WIDTH), ("x2", WIDTH), ("cx", WIDTH), ("y", height), ("cy", height)):
            assert 0 <= float(element.get(name, 0)) <= limit


def test_marks_lie_at_their_shares() -> None:
    """The reference circles: 58 of 60 and 30 of 60 on an axis from 0 to 100 %."""
    root = ElementTree.fromstring(attack_figure())
    circles = [float(circle.get("cx", 0)) for circle in root.iter(f"{SVG}circle")]
    axis = Scale(0, 1, 112, WIDTH - 66)
    assert circles[1:] == pytest.approx([axis(58 / 60), axis(0.5)], abs=0.06)


def test_one_threat_draws_points_and_no_line() -> None:
    assert "<path" not in eps_figure(threats=1)
    assert "<path" in eps_figure(threats=2)


def test_many_classes_show_the_worst() -> None:
    """200 classes would be a comb: the 20 worst are readable."""
    rows = [line for line in class_figure(200).split('<text class="label"') if "…" in line]
    assert len(rows) == figures.CLASSES_SHOWN
    assert "0/5" in class_figure(200) and "4/5" not in class_figure(200)


def test_histogram_counts_every_image_and_cuts_at_zero() -> None:
    root = ElementTree.fromstring(margin_figure())
    notes = [title.text or "" for title in root.iter(f"{SVG}title")]
    bins = [note for note in notes if note.startswith("margin ")]
    assert sum(int(note.split(": ")[1].split()[0]) for note in bins) == 2
    assert all(" 0 wrong" in note or " 0 right" in note for note in bins)


def test_constant_margins_are_drawn() -> None:
    ElementTree.fromstring(figures.margin_histogram(np.zeros(4), np.ones(4, dtype=bool)))


def test_nothing_certified_is_drawn_as_zero() -> None:
    ElementTree.fromstring(figures.certified_curve([figures.Certified(0.25, np.zeros(4), [0.0])]))


@pytest.mark.parametrize(("span", "parts", "step"), [(10, 5, 2), (0.57, 7, 0.1), (24, 24, 1), (200, 5, 50)])
def test_steps_are_round(span: float, parts: int, step: float) -> None:
    assert round_step(span, parts) == pytest.approx(step)


def test_long_names_keep_their_ending() -> None:
    assert shortened("great white shark 12", 13) == "great …ark 12"
    assert shortened("cat", 13) == "cat"
