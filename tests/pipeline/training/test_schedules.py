"""The learning rate at the points that the papers name."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from pipeline.params import TrainSettings
from pipeline.resolve import complete
from pipeline.training.optimisation import learning_rate, radius_share

PER_EPOCH = 391


def settings(method: str, schedule: str = "paper") -> TrainSettings:
    return complete({"data": {"name": "cifar10"}, "method": {"name": method}, "train": {"schedule": schedule}}).train


def rate(train: TrainSettings, epoch: int, step: int = 0) -> float:
    """At a step of an epoch, both from 1 and 0 as the papers count: epoch 1 is the first."""
    assert train.epochs is not None
    return learning_rate((epoch - 1) * PER_EPOCH + step, train.epochs * PER_EPOCH, train)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, 0.02), (2, 0.1), (75, 0.1), (76, 0.01), (90, 0.01), (91, 0.001), (100, 0.001)]
)
@pytest.mark.parametrize("step", [0, PER_EPOCH - 1])
def test_d2r(epoch: int, expected: float, step: int):
    assert rate(settings("d2r_cag"), epoch, step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(1, 0.1), (100, 0.1), (101, 0.01), (105, 0.01), (106, 0.001), (110, 0.001)]
)
@pytest.mark.parametrize("method", ["fgsm_pgk", "pgd_at"])
@pytest.mark.parametrize("step", [0, PER_EPOCH - 1])
def test_fgsm_pgk_and_common(method: str, epoch: int, expected: float, step: int):
    assert rate(settings(method), epoch, step) == pytest.approx(expected, rel=1e-12)


def test_regmix_drops_at_the_same_shares_of_95_epochs():
    train = settings("regmix")
    first = next(step for step in range(95 * PER_EPOCH) if learning_rate(step, 95 * PER_EPOCH, train) < 0.05)
    assert first == math.ceil(95 * PER_EPOCH * 100 / 110)


def test_one_cycle_rises_and_falls_in_straight_lines():
    train = TrainSettings(epochs=10, lr=0.2, lr_shape="one_cycle", warmup=0.3)
    rates = [learning_rate(step, 100, train) for step in range(100)]
    assert rates[0] == pytest.approx(0.2 / 30) and rates[29] == pytest.approx(0.2) and rates[30] == pytest.approx(0.2)
    assert rates[65] == pytest.approx(0.1) and rates[99] == pytest.approx(0.2 / 70)
    assert max(rates) == pytest.approx(0.2) and min(rates) > 0
    assert all(later > earlier for earlier, later in pairwise(rates[:30]))
    assert all(later < earlier for earlier, later in pairwise(rates[30:]))


def test_cosine_starts_at_lr_and_ends_near_nothing():
    train = TrainSettings(epochs=10, lr=0.2, lr_shape="cosine", warmup=0.0)
    assert learning_rate(0, 100, train) == pytest.approx(0.2)
    assert learning_rate(50, 100, train) == pytest.approx(0.1)
    assert learning_rate(99, 100, train) == pytest.approx(0.1 * (1 + math.cos(0.99 * math.pi)))


def test_warmup_goes_before_every_shape():
    for shape in ("cosine", "piecewise", "one_cycle"):
        train = TrainSettings(epochs=10, lr=0.2, lr_shape=shape, warmup=0.1, milestones=[0.5])
        assert [learning_rate(step, 100, train) for step in range(10)] == pytest.approx(
            [0.02 * k for k in range(1, 11)]
        )


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_runs_have_a_rate_at_every_step(steps: int):
    for shape in ("cosine", "piecewise", "one_cycle"):
        for warmup in (0.0, 0.3, 0.99):
            train = TrainSettings(epochs=1, lr=0.1, lr_shape=shape, warmup=warmup, milestones=[0.5])
            assert all(0 < learning_rate(step, steps, train) <= 0.1 + 1e-12 for step in range(steps))


def test_the_schedule_of_params_is_what_the_owner_says():
    common = settings("d2r_cag", "common")
    assert (common.epochs, common.lr, common.weight_decay, common.first_epoch_lr) == (110, 0.1, 5e-4, None)
    assert settings("fgsm_pgk", "common").averaging == "ema", "FGSM-PGK without averaging is another method"


def test_the_radius_rises_in_a_straight_line_and_stays():
    settings = TrainSettings(eps_warmup=0.4)
    shares = [radius_share(step, 10, settings) for step in range(10)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1])
    assert all(radius_share(step, 10, TrainSettings()) == 1.0 for step in range(10))
