"""The smallest piece of work goes first, and whoever gives up takes no thread from the others."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from serving.input.requests import Threads


def test_small_work_does_not_wait_for_large_work_that_came_before() -> None:
    done: list[int] = []
    gate = threading.Event()

    async def ask() -> None:
        threads = Threads(1, "test")
        running = asyncio.create_task(threads.run(0, gate.wait))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(threads.run(size, lambda size=size: done.append(size))) for size in (9, 5, 7, 1)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        gate.set()
        await asyncio.gather(running, *waiting, return_exceptions=True)

    asyncio.run(ask())
    assert done == [1, 7, 9]


def test_a_thread_is_free_only_when_its_work_is_over() -> None:
    """Whoever waits for it has given up, but it still computes."""
    under_way, most = [0], [0]

    def work() -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.1)
        under_way[0] -= 1

    async def ask() -> float:
        threads = Threads(1, "test")
        tasks = [asyncio.create_task(threads.run(number, work)) for number in range(3)]
        await asyncio.sleep(0.03)
        tasks[0].cancel()
        began = time.monotonic()
        await tasks[2]
        return time.monotonic() - began

    assert asyncio.run(ask()) > 0.2
    assert most == [1]


def test_what_work_raises_is_its_own_and_gives_the_thread_back() -> None:
    async def ask() -> int:
        threads = Threads(1, "test")
        with pytest.raises(ZeroDivisionError):
            await threads.run(1, lambda: 1 // 0)
        return await threads.run(1, lambda: 7)

    assert asyncio.run(ask()) == 7
