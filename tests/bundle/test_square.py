"""Square finds what queries can find, stays inside the ball, and asks no more than it may."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.square.candidates import bumps, step, step_count
from bundle.square.search import FRACTION, square, window_fraction
from bundle.table.threats import Threat
from tests.bundles import digits, linear_model

THREATS = [Threat("linf", 24), Threat("linf", 7.9), Threat("l2", 0.6), Threat("l1", 2.0), Threat("l1", 0.01)]
_, WEIGHT, BIAS = linear_model()
#: In whole parts of a 4096th.
WEIGHTS, BIASES = (np.rint(4096 * values).astype(np.int64) for values in (WEIGHT, 255 * BIAS))


def logits(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Summed in integers: the same in any batch, on any processor."""
    return (images.reshape(len(images), -1).astype(np.int64) @ WEIGHTS + BIASES) / (4096 * 255)


def clean(count: int = 24) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    images, labels = (array[1200 : 1200 + count] for array in digits())
    return images, labels, np.arange(1200, 1200 + count)


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.name)
def test_what_is_returned_is_in_the_ball_and_judged_rightly(threat: Threat):
    images, labels, index = clean()
    found = square(logits, images, labels, threat=threat, seed=0, index=index, queries=60)
    assert found.images.dtype == np.uint8 and threat.inside(images, found.images).all()
    assert np.array_equal(found.broken, logits(found.images).argmax(1) != labels)
    rows = np.arange(len(labels))

    def margin(scores):
        others = scores.copy()
        others[rows, labels] = -np.inf
        return scores[rows, labels] - others.max(1)

    right = logits(images).argmax(1) == labels
    assert (margin(logits(found.images))[right] <= margin(logits(images))[right]).all()


@pytest.mark.parametrize(
    ("threat", "share"), [(Threat("linf", 24), 0.8), (Threat("l2", 0.8), 0.7), (Threat("l1", 4.0), 0.6)]
)
def test_it_finds_most_of_what_there_is_to_find(threat: Threat, share: float):
    """A linear classifier's breakable images are known: those whose smallest radius (dual norm) is below eps."""
    images, labels, index = clean(60)
    scores, dual = logits(images), {"linf": 1, "l2": 2, "l1": np.inf}[threat.norm]
    gaps = scores[np.arange(60), labels][:, None] - scores
    sizes = np.stack([np.linalg.norm(WEIGHT - WEIGHT[:, [label]], dual, axis=0) for label in labels])
    radii = np.where(np.arange(10) == labels[:, None], np.inf, gaps / np.maximum(sizes, 1e-9)).min(axis=1)
    breakable = radii < 0.8 * threat.eps  # the box takes some of the ball away
    found = square(logits, images, labels, threat=threat, seed=0, index=index, queries=400)
    assert breakable.sum() >= 10
    assert found.broken[breakable].mean() >= share
    assert not found.broken[radii > 1.02 * threat.eps].any()


@pytest.mark.parametrize("threat", [Threat("linf", 16), Threat("l2", 0.4), Threat("l1", 1.0)], ids=lambda t: t.name)
def test_an_image_is_searched_alike_in_any_company(threat: Threat):
    images, labels, index = clean(12)
    together = square(logits, images, labels, threat=threat, seed=3, index=index, queries=40)
    rows = [7, 2]
    apart = square(logits, images[rows], labels[rows], threat=threat, seed=3, index=index[rows], queries=40)
    assert np.array_equal(together.images[rows], apart.images)
    assert np.array_equal(together.queries[rows], apart.queries)
    other = square(logits, images, labels, threat=threat, seed=4, index=index, queries=40)
    assert not np.array_equal(together.images, other.images)


@pytest.mark.parametrize("threat", [Threat("linf", 2), Threat("l2", 0.1), Threat("l1", 0.2)], ids=lambda t: t.name)
def test_queries_are_counted_and_broken_images_left_alone(threat: Threat):
    images, labels, index = clean(20)
    labels = labels.copy()
    labels[:3] = (logits(images[:3]).argmax(1) + 1) % 10  # wrong before any attack
    asked, sizes = np.zeros(20, int), []

    def counting(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        sizes.append(len(batch))
        for image in batch:  # candidates are near their own image and no other
            distance = np.abs(images.astype(int) - image).sum(axis=(1, 2, 3))
            asked[distance.argmin()] += 1
        return logits(batch)

    found = square(counting, images, labels, threat=threat, seed=0, index=index, queries=25, batch_size=8)
    assert np.array_equal(asked, found.queries)
    assert found.queries.max() <= 25 and max(sizes) <= 8
    assert (found.queries[:3] == 1).all() and found.broken[:3].all()
    assert np.array_equal(found.images[:3], images[:3])


def test_probabilities_are_compared_by_their_logarithms():
    """A softmax of the same scores leads the search the same way, down to probabilities near 1.

    No weight is 0, so that no two images tie, and rounding has nothing to decide.
    """
    images, _, index = clean(10)
    weight = np.random.default_rng(1).standard_normal((images[0].size, 10))

    def scored(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        return batch.reshape(len(batch), -1) / 255 @ weight

    def softmax(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        scores = scored(batch)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    labels, settings = (
        scored(images).argmax(1),
        {"threat": Threat("linf", 16), "seed": 0, "index": index, "queries": 40},
    )
    expected = square(scored, images, labels, **settings)
    found = square(softmax, images, labels, probabilities=True, **settings)
    assert not np.array_equal(found.images, images)
    assert np.array_equal(found.images, expected.images)


def test_no_room_means_no_search():
    images, labels, index = clean(5)
    found = square(logits, images, labels, threat=Threat("linf", 0.5), seed=0, index=index)
    assert np.array_equal(found.images, images) and (found.queries == 1).all()


def test_colours_and_oblong_images():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 11, 3), dtype=np.uint8)
    weight = np.random.default_rng(1).standard_normal((images[0].size, 3))
    labels = (images.reshape(4, -1) @ weight).argmax(1)
    for threat in (Threat("linf", 8), Threat("l2", 0.5), Threat("l1", 3)):
        found = square(
            lambda batch: batch.reshape(len(batch), -1) @ weight,
            images,
            labels,
            threat=threat,
            seed=0,
            index=np.arange(4),
            queries=50,
        )
        assert threat.inside(images, found.images).all()
        assert (found.images != images).any(axis=(1, 2, 3)).all()


def test_the_window_shrinks_with_the_budget():
    fractions = [window_fraction(step, 1000) for step in (1, 2, 30, 150, 300, 700, 900)]
    assert fractions == [FRACTION / 2**halved for halved in (0, 1, 3, 5, 6, 8, 9)]


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_bumps_have_length_one_and_two_signs(side: int):
    pattern = bumps(side)
    assert pattern.shape == (side, side) and np.isclose(np.linalg.norm(pattern), 1)
    if side > 1:
        assert pattern[:, : side // 2].min() > 0 > pattern[:, side // 2 :].max()


def test_bad_input_is_refused_in_a_sentence():
    images, labels, index = clean(3)
    threat = Threat("linf", 8)
    with pytest.raises(HallmarkError, match="images: must be uint8"):
        square(logits, images / 255, labels, threat=threat, seed=0, index=index)
    with pytest.raises(HallmarkError, match="labels and index"):
        square(logits, images, labels[:2], threat=threat, seed=0, index=index)
    with pytest.raises(HallmarkError, match="at least 1"):
        square(logits, images, labels, threat=threat, seed=0, index=index, queries=0)
    with pytest.raises(HallmarkError, match=r"scores: must be \(N, K\)"):
        square(lambda batch: logits(batch)[:, 0], images, labels, threat=threat, seed=0, index=index)


def test_without_a_number_it_asks_a_thousand_times() -> None:
    images, labels, index = clean(1)
    told: list[int] = []
    square(
        logits,
        images,
        labels,
        threat=Threat("linf", 1),
        seed=0,
        index=index,
        progress=lambda over, _: told.append(over),
    )
    assert told[-1] == 1000


def test_a_channel_gets_no_more_than_its_windows_held():
    """The l2 ball is spent in one channel of three: a step moves that length, and leaves the others alone."""
    clean_image = np.full((1, 12, 12, 3), 128, np.uint8)
    best = clean_image + np.array([2, 0, 0], np.uint8)
    threat = Threat("l2", 24.001 / 255)
    assert threat.levels == 12 * 12 * 2**2
    for uniforms in np.random.default_rng(2).random((5, 1, step_count(threat, best.shape))):
        moves = step(clean_image, best, uniforms, 0.3, threat).astype(int) - 128
        assert (moves[..., 0] != 2).any() and not moves[..., 1:].any()
        assert 0.9 * threat.levels < (moves**2).sum() <= threat.levels
