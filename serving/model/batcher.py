"""Rows of many requests in one call of the model, and each request gets its own rows back.

From logits to what a client reads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Model = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
#: Is told the rows of a batch, and the seconds that the model took.
Observer = Callable[[int, float], None]


class QueueFull(Exception):
    """More rows would wait than may."""


class _Piece(NamedTuple):
    rows: NDArray[np.uint8]
    answer: asyncio.Future[NDArray[np.float32]]


class Batcher:
    """Joins the rows that wait into batches; while one is in the model, the next one gathers.

    So nobody waits for a timer: a lone request goes at once, and batches grow exactly when the model is behind.
    The model runs in one thread of its own and the event loop stays free.

    Parameters
    ----------
    model : uint8 rows (N, H, W, C) to float32 logits (N, K); each row's logits depend on that row alone.
    batch_rows : largest batch.
    queue_rows : rows that may wait.
    observe : is called after each batch.
    """

    def __init__(self, model: Model, *, batch_rows: int, queue_rows: int, observe: Observer | None = None) -> None:
        self._model, self._batch_rows, self._queue_rows = model, batch_rows, queue_rows
        self._observe = observe
        self._waiting: deque[_Piece] = deque()
        self._queued = 0
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    @property
    def queued(self) -> int:
        """Rows that wait now."""
        return self._queued

    async def logits(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits of some valid rows (N, H, W, C), N ≥ 1; raises QueueFull at once where they may not wait."""
        if self._queued + len(rows) > self._queue_rows:
            raise QueueFull(f"{self._queued} rows wait already")
        loop = asyncio.get_running_loop()
        starts = range(0, len(rows), self._batch_rows)
        pieces = [_Piece(rows[start : start + self._batch_rows], loop.create_future()) for start in starts]
        self._waiting.extend(pieces)
        self._queued += len(rows)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return np.concatenate(await asyncio.gather(*(piece.answer for piece in pieces)))

    def close(self) -> None:
        """Ends the thread when the batch that it works on is done."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # requests that are read already get into this batch
            batch = self._take()
            if batch:
                await self._answer(batch)

    def _take(self) -> list[_Piece]:
        batch: list[_Piece] = []
        size = 0
        while self._waiting and size + len(self._waiting[0].rows) <= self._batch_rows:
            piece = self._waiting.popleft()
            self._queued -= len(piece.rows)
            if not piece.answer.done():  # else its client has gone
                batch.append(piece)
                size += len(piece.rows)
        return batch

    def _call(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        started = time.perf_counter()
        logits = self._model(rows)
        if self._observe is not None:
            self._observe(len(rows), time.perf_counter() - started)
        return logits

    async def _answer(self, batch: list[_Piece]) -> None:
        joined = batch[0].rows if len(batch) == 1 else np.concatenate([piece.rows for piece in batch])
        try:
            logits: NDArray[Any] = await asyncio.get_running_loop().run_in_executor(self._thread, self._call, joined)
        except Exception as error:  # whatever the model raises is the answer of the requests that asked
            if len(batch) > 1:  # a failure is its own request's alone
                for piece in batch:
                    await self._answer([piece])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        start = 0
        for piece in batch:
            if not piece.answer.done():
                piece.answer.set_result(logits[start : start + len(piece.rows)])
            start += len(piece.rows)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities (N, K) of logits (N, K), computed in float64; each row adds up to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)


def predictions(logits: NDArray[np.floating[Any]], classes: list[str]) -> list[dict[str, Any]]:
    """One answer per row: the class of the largest logit (the first of equals), its number, and every probability."""
    return [
        {"class": classes[label], "label": label, "probabilities": dict(zip(classes, row, strict=True))}
        for label, row in zip(logits.argmax(axis=1).tolist(), softmax(logits).tolist(), strict=True)
    ]
