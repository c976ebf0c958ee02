"""Figures are well-formed, say their numbers in words, put marks where the numbers are, and keep text inside."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import numpy as np
import pytest

from bundle.numbers.breakdowns import calibration_error
from bundle.pages import figures
from bundle.pages.svg import WIDTH, Scale, round_step, shortened

SVG = "{http://www.w3.org/2000/svg}"
POLYGON = f"{SVG}polygon"
HOSTILE = '<b>&"long class name that goes on'
CONFIDENCE, RIGHT = np.array([0.05, 0.5, 0.51, 0.52, 0.93, 1.0]), np.array([False, True, False, True, True, False])
#: Rows along the adversarial direction: the loss grows with it, and hardly changes along the random one.
LOSSES = [[0.002, 0.001, 0.002], [0.05, 0.04, 0.05], [2.0, 2.0, 40.0]]


def attack_figure() -> str:
    rows = [("clean", figures.accuracy_of(58, 60), figures.accuracy_of(58, 60))]
    return figures.by_attack([*rows, (HOSTILE, figures.accuracy_of(0, 60), figures.accuracy_of(30, 60))], "l∞ 8/255")


def eps_figure(threats: int = 3, lighter: tuple[float, ...] = ()) -> str:
    series = [(4.0 * step, figures.accuracy_of(60 - 20 * step, 60)) for step in range(threats + 1)]
    return figures.by_eps({"reference": series, "served": series}, "linf", lighter)


def sweep_figure() -> str:
    return eps_figure(3, (4.0, 12.0))


def class_figure(classes: int = 3) -> str:
    return figures.by_class([figures.ClassAccuracy(f"{HOSTILE} {index}", index % 5, 5, 5) for index in range(classes)])


def margin_figure() -> str:
    margins = np.array([-3.0, -0.1, 0.1, 0.2, 5.0])
    return figures.margin_histogram(margins, margins > 0, np.array([0.1, 0.3, 1.0, 2.0, 5.0]))


def confusion_figure(classes: int = 3) -> str:
    counts = np.arange(classes**2).reshape(classes, classes)
    return figures.confusion(counts, [f"{HOSTILE} {index}" for index in range(classes)])


def confusion_list() -> str:
    return confusion_figure(30)


def reliability_figure() -> str:
    bins = figures.bins_of(CONFIDENCE, RIGHT)
    return figures.reliability({"clean": bins, "under attack": bins[:2]})


def training_figure(losses: tuple[float, ...] = (2.0, 0.5, -0.5)) -> str:
    curve = [
        {"epoch": epoch, "loss": loss, "clean": 0.2 * epoch, "pgd_10": 0.1 * epoch}
        for epoch, loss in enumerate(losses, 1)
    ]
    return figures.training(curve, selected=2)


def surface_figure() -> str:
    return figures.surface(LOSSES, 2.0, "ε is l∞ 8/255")


def certified_figure() -> str:
    radii = np.array([0.0, 0.1, 0.5, 0.9])
    return figures.certified_curve([figures.Certified(sigma, radii * sigma, [0.0, 0.25]) for sigma in (0.25, 0.5)])


FIGURES = [
    attack_figure,
    eps_figure,
    sweep_figure,
    class_figure,
    margin_figure,
    confusion_figure,
    confusion_list,
    reliability_figure,
    training_figure,
    surface_figure,
    certified_figure,
]


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


def boxes(figure: str) -> list[tuple[float, float, float, float, str]]:
    """Left, top, right and bottom of each text that runs across, for narrow letters: 4.5 pixels each, 9 high."""
    found = []
    for element in ElementTree.fromstring(figure).iter(f"{SVG}text"):
        if element.get("transform") is None:
            length, x, y = 4.5 * len(element.text or ""), float(element.get("x", 0)), float(element.get("y", 0))
            left = x - length * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor", "start")]
            found.append((left, y - 9, left + length, y, element.text or ""))
    return found


@pytest.mark.parametrize("draw", FIGURES)
def test_no_text_lies_on_another_or_leaves_the_figure(draw: Callable[[], str]) -> None:
    found = boxes(draw())
    assert [box for box in found if box[0] < 0 or box[2] > WIDTH] == []
    pairs = itertools.combinations(found, 2)
    across = [(a[4], b[4]) for a, b in pairs if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
    assert across == []


def test_marks_lie_at_their_shares() -> None:
    """The reference circles: 58 of 60 and 30 of 60 on an axis from 0 to 100 %."""
    root = ElementTree.fromstring(attack_figure())
    circles = [float(circle.get("cx", 0)) for circle in root.iter(f"{SVG}circle")]
    grid = [float(line.get("x1", 0)) for line in root.iter(f"{SVG}line") if line.get("class") == "grid"]
    axis = Scale(0, 1, grid[0], grid[-1])
    assert circles[1:] == pytest.approx([axis(58 / 60), axis(0.5)], abs=0.06)


def curves(figure: str) -> dict[str, np.ndarray]:
    """The points of each path, by its class."""
    paths = ElementTree.fromstring(figure).iter(f"{SVG}path")
    return {
        path.get("class", ""): np.array(re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")), float) for path in paths
    }


def levels(figure: str) -> dict[str, float]:
    """Where a level's number stands on the vertical axis, at the middle of its digits."""
    texts = ElementTree.fromstring(figure).iter(f"{SVG}text")
    found = [text for text in texts if text.get("class") == "tick" and text.get("text-anchor") == "end"]
    return {(text.text or "").replace("−", "-"): float(text.get("y", 0)) for text in found}


def test_the_training_s_curves_lie_at_their_values() -> None:
    """Both panels begin and end with the epochs; of the loss zero is in sight, whatever its sign."""
    drawn, at = curves(training_figure()), levels(training_figure())
    assert len({tuple(points[:, 0]) for points in drawn.values()}) == 1
    accuracy = Scale(20, 100, at["20"], at["100"])
    np.testing.assert_allclose(np.diff(drawn["curve clean"][:, 1]), accuracy(20) - accuracy(0), atol=0.15)
    np.testing.assert_allclose(np.diff(drawn["curve served"][:, 1]), accuracy(10) - accuracy(0), atol=0.15)
    loss = Scale(1, 2, at["1"], at["2"])
    heights = drawn["curve outline"][:, 1] - drawn["curve outline"][0, 1]
    np.testing.assert_allclose(heights, [0, loss(0.5) - loss(2), loss(-0.5) - loss(2)], atol=0.15)


def test_epochs_stand_below_what_is_drawn() -> None:
    texts = ElementTree.fromstring(training_figure()).iter(f"{SVG}text")
    epochs = [text for text in texts if text.get("class") == "tick" and text.get("text-anchor") == "middle"]
    assert [text.text for text in epochs] == ["1", "2", "3"]
    lowest = max(points[:, 1].max() for points in curves(training_figure()).values())
    assert all(float(text.get("y", 0)) - 9 > lowest for text in epochs)


def test_a_loss_of_nothing_is_drawn() -> None:
    assert set(curves(training_figure((0.0, 0.0)))["curve outline"][:, 1]) == {272.0}


def test_right_images_stand_on_the_wrong_ones_and_these_on_zero() -> None:
    """A bin may hold both where a margin is of the other setting; the height of an image is the same in each."""
    margins = np.array([-0.5] * 2 + [0.5] * 3 + [0.6])
    figure = figures.margin_histogram(margins, np.array([True, False] + [True] * 3 + [False]), margins)
    zero = curves(figure)["curve outline"][:, 1].max()
    bars = [rect for rect in ElementTree.fromstring(figure).iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    heights = {}
    for rect in bars:
        left, top, height = (float(rect.get(name, 0)) for name in ("x", "y", "height"))
        assert top + height == pytest.approx(heights.get(left, zero), abs=0.15)
        heights[left] = top
    assert len(bars) == 4


def test_the_outline_before_the_attack_rises_from_zero_and_returns() -> None:
    outline = curves(margin_figure())["curve outline"][:, 1]
    assert outline[0] == outline[-1] == outline.max() > outline.min() + 20


def test_each_bin_has_a_mark_on_its_curve_as_large_as_its_share() -> None:
    """On the square from 0 to 100 % both ways whose diagonal is drawn."""
    bins = [figures.Bin(count=10, confidence=0.25, accuracy=0.5), figures.Bin(count=30, confidence=0.75, accuracy=1.0)]
    root = ElementTree.fromstring(figures.reliability({"clean": bins, "under attack": bins[:1]}))
    lines = {path.get("class"): re.findall(r"([\d.]+) ([\d.]+)", path.get("d", "")) for path in root.iter(f"{SVG}path")}
    (left, bottom), (right, top) = [(float(x), float(y)) for x, y in lines["zero"]]
    x, y = Scale(0, 1, left, right), Scale(0, 1, bottom, top)
    marks = [
        np.array([point.split(",") for point in mark.get("points", "").split()], float) for mark in root.iter(POLYGON)
    ]
    wanted = [(x(item.confidence), y(item.accuracy)) for item in (*bins, bins[0])]
    np.testing.assert_allclose([mark.mean(axis=0) for mark in marks[2:]], wanted, atol=0.06)  # after the legend's two
    assert np.ptp(marks[2][:, 0]) < np.ptp(marks[3][:, 0]) < np.ptp(marks[4][:, 0])
    curves = [np.array(points, float) for kind, points in lines.items() if "curve" in (kind or "")]
    np.testing.assert_allclose(np.concatenate(curves), wanted, atol=0.06)


def test_a_column_of_numbers_stands_under_its_name() -> None:
    texts = list(ElementTree.fromstring(attack_figure()).iter(f"{SVG}text"))
    (head,) = [text.get("x") for text in texts if text.text == "served" and text.get("text-anchor") == "end"]
    assert {text.get("x") for text in texts if text.get("class") == "value"} == {head}


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
    ElementTree.fromstring(figures.margin_histogram(np.zeros(4), np.ones(4, dtype=bool), np.zeros(4)))


def test_clean_margins_are_a_distribution_of_their_own() -> None:
    """Ten images at 1 before the attack, at −1 after it: the line has its peak where the bars have nothing."""
    after = np.full(10, -1.0)
    drawn = figures.margin_histogram(after, after > 0, after + 2)
    root = ElementTree.fromstring(drawn)
    outline = next(path for path in root.iter(f"{SVG}path") if path.get("class") == "curve outline")
    points = [tuple(map(float, point.split())) for point in (outline.get("d") or "")[1:].split(" L")]
    peak = min(points, key=lambda point: point[1])
    bars = [float(rect.get("x", 0)) for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert len(bars) == 1 and peak[0] > bars[0] + 50
    assert "median margin is -1.00" in drawn and "without an attack it is 1.00" in drawn


def hollow(figure: str) -> list[str]:
    """The notes of the hollow marks, without those of the legend."""
    marks = [mark for mark in ElementTree.fromstring(figure).iter() if "hollow" in mark.get("class", "")]
    return [title.text or "" for mark in marks for title in mark]


def test_points_that_autoattack_did_not_judge_are_hollow_and_the_legend_says_so() -> None:
    notes = hollow(sweep_figure())
    assert len(notes) == 4 and all(note.startswith(("ε 4/255", "ε 12/255")) for note in notes)
    assert all(note.endswith("margin attack alone") for note in notes)
    assert ">margin attack alone<" in sweep_figure() and ">with AutoAttack<" in sweep_figure()
    assert ">with AutoAttack<" not in eps_figure(1, (4.0,)) and hollow(eps_figure(1, (4.0,)))
    assert hollow(eps_figure()) == [] and "AutoAttack" not in eps_figure()


def test_a_confusion_stands_in_its_labels_row_and_its_answers_column() -> None:
    counts = np.array([[5, 0, 3], [0, 8, 0], [0, 1, 9]])
    root = ElementTree.fromstring(figures.confusion(counts, ["cat", "dog", "ox"]))
    cells = {(rect.findtext(f"{SVG}title") or "").split(":")[0]: rect for rect in root.iter(f"{SVG}rect")}
    cat, wrong = cells["cat, answered cat"], cells["cat, answered ox"]
    assert wrong.get("y") == cat.get("y") and float(wrong.get("x", 0)) > float(cat.get("x", 0))
    assert float(wrong.get("fill-opacity", 0)) == pytest.approx(0.55 * 3 / 8, abs=0.01)
    assert cells["dog, answered dog"].get("class") == "cell served" and wrong.get("class") == "cell heat"
    assert (root.findtext(f"{SVG}desc") or "") == "22 of 26 answers are right; cat answered ox: 3; ox answered dog: 1"


def test_many_classes_list_the_most_frequent_confusions() -> None:
    counts = np.zeros((30, 30), dtype=np.int64)
    np.fill_diagonal(counts, 99)
    counts[4, 7], counts[20, 3], counts[2, 1] = 2, 5, 2
    assert figures.most_confused(counts) == [(20, 3, 5), (2, 1, 2), (4, 7, 2)]
    counts[0, 1:] = 1
    drawn = figures.confusion(counts, [str(index) for index in range(30)])
    assert drawn.count("→") == figures.PAIRS_SHOWN and "20 → 3" in drawn and ">99<" not in drawn
    assert "no wrong answer" in figures.confusion(np.eye(30, dtype=np.int64), [str(index) for index in range(30)])


def test_the_bins_of_the_diagram_are_those_of_the_calibration_error() -> None:
    bins = figures.bins_of(CONFIDENCE, RIGHT)
    assert sum(item.count for item in bins) == len(RIGHT)
    gap = sum(item.count * abs(item.accuracy - item.confidence) for item in bins) / len(RIGHT)
    assert gap == pytest.approx(calibration_error(CONFIDENCE, RIGHT))


def shades(figure: str) -> list[tuple[float, float]]:
    """Height and opacity of the surface's cells, from the top."""
    cells = [rect for rect in ElementTree.fromstring(figure).iter(f"{SVG}rect") if "cell" in rect.get("class", "")]
    return [(float(rect.get("y", 0)), float(rect.get("fill-opacity", 0))) for rect in cells[: -len(figures.BANDS) - 1]]


def test_the_adversarial_direction_runs_upwards() -> None:
    """The last row has the highest losses; cells of one shade are one rectangle."""
    found = shades(surface_figure())
    assert len(found) == 4
    assert max(found, key=lambda cell: cell[1])[0] == min(cell[0] for cell in found)


def test_every_loss_above_a_band_has_a_darker_shade() -> None:
    steps = np.diff(figures.BANDS)
    assert (steps > 0).all() and figures.band_of(0.0) == 0
    assert [figures.band_of(band) for band in figures.BANDS] == list(range(1, len(figures.BANDS) + 1))


def test_the_shade_of_a_loss_is_the_same_for_every_model() -> None:
    """The scale does not follow the largest loss of the model at hand."""
    other = [[0.002, 0.001, 0.002], [0.05, 0.04, 0.05], [2.0, 2.0, 2.0]]
    assert set(shades(figures.surface(other, 2.0, ""))) < set(shades(surface_figure()))
    assert [figures.band_of(loss) for loss in (0, 0.01, 0.6, 29.9, 30, 1e6)] == [0, 1, 6, 13, 14, 14]


def test_nothing_certified_is_drawn_as_zero() -> None:
    ElementTree.fromstring(figures.certified_curve([figures.Certified(0.25, np.zeros(4), [0.0])]))


@pytest.mark.parametrize(("span", "parts", "step"), [(10, 5, 2), (0.57, 7, 0.1), (24, 24, 1), (200, 5, 50)])
def test_steps_are_round(span: float, parts: int, step: float) -> None:
    assert round_step(span, parts) == pytest.approx(step)


def test_long_names_keep_their_ending() -> None:
    assert shortened("great white shark 12", 13) == "great …ark 12"
    assert shortened("cat", 13) == "cat"


def test_the_surface_is_told_in_words() -> None:
    """Row by row towards the adversarial direction, column by column along the random one."""
    figure = figures.surface([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], 2.0, "ε is l∞ 8/255")
    assert (
        "Loss 5 at the image, 9 at most and 1 at least in the square, 8 at 2 ε along the adversarial direction, "
        "6 at 2 ε along the random one."
    ) in figure
