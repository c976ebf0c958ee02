"""Several processes on one evaluation find what one finds."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.errors import HallmarkError
from pipeline.evaluation import evidence, running
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.victim import Victim, draw
from pipeline.params import AttackSettings
from pipeline.run.cache import Cache, locked
from tests.pipeline.evaluation.networks import CLASSES, Linear, split

#: Small batches make enough tasks for two.
SETTINGS = AttackSettings(tier="quick", eps_255=[4.0, 8.0], images=24, batch_size=6)


def gather(cache: Cache | None, processes: int) -> evidence.Evidence:
    test, victim = split(), Victim(Linear(), CLASSES)
    return gather_evidence(
        victim,
        draw(test, SETTINGS),
        SETTINGS,
        device=torch.device("cpu"),
        say=lambda line: None,
        cache=cache,
        processes=processes,
    )


def test_two_processes_find_what_one_finds(tmp_path: Path):
    alone, together = gather(None, 1), gather(Cache(tmp_path / "kept"), 2)
    assert alone.outcomes.parquet() == together.outcomes.parquet() and alone.description == together.description
    assert all(np.array_equal(images, together.images[name]) for name, images in alone.images.items())


def test_a_task_in_another_hand_is_left_until_it_is_done(tmp_path: Path, monkeypatch):
    """Held by another process when the work begins, and given up without a result: it is done in the second round."""
    cache, done = Cache(tmp_path), []
    test, settings = draw(split(), SETTINGS), SETTINGS
    images = torch.from_numpy(test.images).permute(0, 3, 1, 2) / 255
    sample = evidence.Sample(images, torch.from_numpy(test.labels), torch.from_numpy(test.index))
    work = evidence.all_tasks(Victim(Linear(), CLASSES), sample, settings)
    held = work[0]
    holder = locked(tmp_path / "locks" / held.key.replace("/", "-"))
    holder.__enter__()
    original = running.locked

    def watched(path: Path, *, wait: bool):
        if wait:
            holder.__exit__(None, None, None)
        return original(path, wait=wait)

    monkeypatch.setattr(running, "locked", watched)
    parts = type(held).parts
    monkeypatch.setattr(type(held), "parts", lambda task, cache: done.append(task.key) or parts(task, cache))
    running.run_tasks(work, cache)
    first = done.index(held.key)
    assert first >= len(work) - 1 and set(done) == {task.key for task in work}


def test_the_other_process_does_the_work_while_the_caller_waits(tmp_path: Path):
    cache, victim, test = Cache(tmp_path), Victim(Linear(), CLASSES), draw(split(), SETTINGS)
    images = torch.from_numpy(test.images).permute(0, 3, 1, 2) / 255
    sample = evidence.Sample(images, torch.from_numpy(test.labels), torch.from_numpy(test.index))
    ingredients = {"victim": victim, "sample": sample, "settings": SETTINGS}
    keys = [task.key for task in evidence.all_tasks(**ingredients)]
    deadline = time.monotonic() + 120
    with running.worker_processes(1, evidence.all_tasks, ingredients, cache):
        while not all(cache.has(key) for key in keys) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert all(cache.has(key) for key in keys)
    assert gather(cache, 1).outcomes.parquet() == gather(None, 1).outcomes.parquet()


def end_at_once(**ingredients: object) -> list[evidence.Task]:
    """In place of all_tasks(): a helper that is killed, as for memory, before it has done anything."""
    os.kill(os.getpid(), signal.SIGKILL)
    return []


@pytest.fixture
def within_two_minutes():
    def ended(*_: object) -> None:
        raise TimeoutError("the caller waits for a helper that is gone")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("ends", ["before it reads anything", "when it has read all"])
def test_a_helper_that_ends_at_once_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, within_two_minutes: None, ends: str
):
    """Its ingredients are more than a pipe holds, so that whoever wrote them to one would wait for ever."""
    alone, victim = gather(None, 1), Victim(Linear(), CLASSES, model=bytes(1_000_000))
    if ends == "before it reads anything":  # the main module cannot be imported again, as where it came from a pipe
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "gone.py"), raising=False)
    else:
        make_tasks = running.worker_processes
        monkeypatch.setattr(evidence, "worker_processes", lambda n, _, *rest: make_tasks(n, end_at_once, *rest))
    cache = Cache(tmp_path / "kept")
    together = gather_evidence(
        victim,
        draw(split(), SETTINGS),
        SETTINGS,
        device=torch.device("cpu"),
        say=lambda line: None,
        cache=cache,
        processes=2,
    )
    assert together.outcomes.parquet() == alone.outcomes.parquet()
    assert all(np.array_equal(images, together.images[name]) for name, images in alone.images.items())
    assert not list((tmp_path / "kept").glob("ingredients*"))


def test_a_helper_takes_no_ingredients_that_others_wrote(tmp_path: Path):
    """What is unpickled runs as code: only the very bytes that the caller wrote are."""
    (tmp_path / "ingredients").write_bytes(b"cos\nsystem\n(S'touch sprung'\ntR.")
    work = running.WorkerInput(evidence.all_tasks, tmp_path / "ingredients", "0" * 64, Cache(tmp_path), 1, os.getpid())
    with pytest.raises(HallmarkError, match="ingredients: was changed by another program"):
        work.ingredients()
