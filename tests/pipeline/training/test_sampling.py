"""Which rows each step sees."""

from __future__ import annotations

import pytest
import torch

from bundle.errors import HallmarkError
from pipeline.training.batches import Sampling


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def manifest(**train: int) -> dict[str, object]:
    return {"splits": {"train": train}, "settings": {"extra_share": 0.5}}


def test_without_extra_rows_it_is_one_shuffle_cut_into_nearly_equal_parts():
    """The order that every run without extra images has had: the same draws, in the same order."""
    sampling, mine, its = Sampling(67, 0, 0.5, 20, 3), generator(5), generator(5)
    for epoch in range(3):
        expected = torch.tensor_split(torch.randperm(67, generator=its), 3)
        for rows, part in zip(sampling.epoch(epoch, mine), expected, strict=True):
            assert torch.equal(rows, part)
    assert sampling.steps == 3 and sampling.images_an_epoch == 67
    assert torch.equal(mine.get_state(), its.get_state())


def test_each_batch_has_its_share_of_extra_rows_and_an_epoch_sees_every_own_row_once():
    sampling = Sampling(own=60, extra=35, share=0.3, batch_size=20, seed=1)
    assert (sampling.extra_a_step, sampling.steps, sampling.images_an_epoch) == (6, 4, 84)
    draws = generator()
    for epoch in range(4):
        batches = sampling.epoch(epoch, draws)
        assert len(batches) == 4
        own = torch.cat([rows[rows < 60] for rows in batches])
        assert sorted(own.tolist()) == list(range(60))
        assert all(int((rows >= 60).sum()) == 6 and rows.max() < 95 for rows in batches)


def test_extra_rows_are_used_up_before_any_comes_again():
    """Over the ends of epochs: 24 a pass, 35 rows, so the first pass ends inside the second epoch."""
    sampling, draws = Sampling(60, 35, 0.3, 20, 1), generator()
    stream = torch.cat([rows[rows >= 60] for epoch in range(5) for rows in sampling.epoch(epoch, draws)]).tolist()
    passes = [stream[start : start + 35] for start in range(0, 105, 35)]
    assert all(sorted(rows) == list(range(60, 95)) for rows in passes)
    assert passes[0] != passes[1] != passes[2], "each shuffled anew"


def test_an_epochs_extra_rows_follow_from_its_number_and_the_seed_alone():
    def extra(epoch: int, seed: int) -> list[int]:
        batches = Sampling(60, 35, 0.3, 20, seed).epoch(epoch, generator(epoch))
        return torch.cat([rows[rows >= 60] for rows in batches]).tolist()

    assert extra(3, 1) == extra(3, 1) and extra(3, 1) != extra(3, 2) and extra(3, 1) != extra(4, 1)


def test_few_extra_rows_come_several_times_an_epoch_and_some_rows_are_always_own():
    sampling = Sampling(own=8, extra=3, share=0.99, batch_size=4, seed=0)
    assert sampling.extra_a_step == 3 and sampling.steps == 8
    batches = sampling.epoch(0, generator())
    assert all(int((rows < 8).sum()) == 1 and sorted(rows[1:].tolist()) == [8, 9, 10] for rows in batches)


def test_the_manifest_says_which_rows_are_own():
    assert Sampling.of(manifest(own=60), 95, batch_size=20, seed=7) == Sampling(60, 35, 0.5, 20, 7)
    assert Sampling.of(manifest(), 95, batch_size=20, seed=7) == Sampling(95, 0, 0.0, 20, 7)
    without = {"splits": {"train": {}}, "settings": {}}
    assert Sampling.of(without, 95, batch_size=20, seed=7).extra_a_step == 0
    with pytest.raises(HallmarkError, match=r"splits\.train\.own must be 1 to 95, .*got 96"):
        Sampling.of(manifest(own=96), 95, batch_size=20, seed=7)


def test_a_share_that_is_no_whole_image_is_refused():
    manifest = {"splits": {"train": {"own": 90}}, "settings": {"extra_share": 0.01}}
    with pytest.raises(HallmarkError, match=r"data\.extra_share: 0\.01 of a batch of 20 is no whole image"):
        Sampling.of(manifest, 95, batch_size=20, seed=0)
    assert Sampling.of(manifest, 95, batch_size=64, seed=0).extra_a_step == 1
