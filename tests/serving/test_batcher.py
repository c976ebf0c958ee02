"""The row batcher: who is joined with whom, and that nobody gets another's answer or failure."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.model.batcher import Batcher, QueueFull

POISON = 255


class Model:
    """Answers each row with its first pixel, remembers its batches, and fails on POISON."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.go.wait(10)
        self.batches.append(len(rows))
        if (rows == POISON).any():
            raise RuntimeError("poison")
        return rows.reshape(len(rows), -1)[:, :1].astype(np.float32)


def _rows(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


def test_requests_that_wait_together_share_a_batch_and_get_their_own_rows() -> None:
    model = Model()
    batcher = Batcher(model, batch_rows=8, queue_rows=100)

    async def ask() -> list[NDArray[np.float32]]:
        return await asyncio.gather(*(batcher.logits(_rows(value, value + 100)) for value in range(10)))

    answers = asyncio.run(ask())
    assert [answer[:, 0].tolist() for answer in answers] == [[value, value + 100] for value in range(10)]
    assert model.batches == [8, 8, 4]


def test_a_request_larger_than_a_batch_is_cut_and_put_together() -> None:
    model = Model()
    batcher = Batcher(model, batch_rows=8, queue_rows=100)
    answer = asyncio.run(batcher.logits(_rows(*range(20))))
    assert answer[:, 0].tolist() == list(range(20))
    assert model.batches == [8, 8, 4]


def test_a_failure_is_its_own_requests_alone() -> None:
    batcher = Batcher(Model(), batch_rows=8, queue_rows=100)

    async def ask() -> list[NDArray[np.float32] | BaseException]:
        requests = (batcher.logits(_rows(value)) for value in (1, POISON, 3))
        return await asyncio.gather(*requests, return_exceptions=True)

    first, failed, last = asyncio.run(ask())
    assert isinstance(failed, RuntimeError)
    assert isinstance(first, np.ndarray) and isinstance(last, np.ndarray)
    assert (first.item(), last.item()) == (1, 3)


def test_a_full_queue_refuses_at_once_and_takes_rows_again_when_it_is_empty() -> None:
    model = Model()
    batcher = Batcher(model, batch_rows=2, queue_rows=4)

    async def ask() -> None:
        model.go.clear()
        first = asyncio.create_task(batcher.logits(_rows(1, 2)))
        await asyncio.sleep(0.05)  # it is in the model now, and waits for nothing
        waiting = asyncio.create_task(batcher.logits(_rows(3, 4, 5, 6)))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.logits(_rows(7))
        model.go.set()
        assert len(await first) + len(await waiting) == 6
        assert len(await batcher.logits(_rows(1, 2, 3, 4))) == 4

    asyncio.run(ask())


def test_rows_of_a_client_that_has_gone_are_not_run() -> None:
    model = Model()
    batcher = Batcher(model, batch_rows=2, queue_rows=4)

    async def ask() -> None:
        model.go.clear()
        first = asyncio.create_task(batcher.logits(_rows(1)))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.logits(_rows(2, 3)))
        last = asyncio.create_task(batcher.logits(_rows(4)))
        await asyncio.sleep(0)
        gone.cancel()
        model.go.set()
        assert ((await first).item(), (await last).item()) == (1, 4)

    asyncio.run(ask())
    assert model.batches == [1, 1]
