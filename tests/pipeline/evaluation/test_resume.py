"""An evaluation killed by SIGKILL, again and again, ends in the very bytes of an undisturbed one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pyautoattack
import pytest
import torch

from bundle.digests import canonical_json, write_whole
from pipeline.attacks.autoattack import autoattack
from pipeline.data.split import Split
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.victim import Victim, draw
from pipeline.networks import build_network
from pipeline.networks.serialisation import to_onnx
from pipeline.params import AttackSettings
from pipeline.run.cache import Cache

#: HALLMARK_KILLS=10 for the check that takes longer.
KILLS = int(os.environ.get("HALLMARK_KILLS", "4"))
SETTINGS = AttackSettings(eps_255=[1.0], sweep=[0.5], images=8, batch_size=4)
FILES = ("outcomes.parquet", "attacks.json", "images")


def evaluate(folder: Path, model: bytes) -> None:
    """The standard tier on eight images, in two batches."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network("preact_resnet8", classes=4, channels=1, width=8).eval()
    guide = build_network("preact_resnet8", classes=4, channels=1, width=8).eval()
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    with torch.no_grad():
        labels = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).argmax(1).numpy()
    test = Split(images, labels)
    original = pyautoattack.AutoAttack._set_version

    def reduced(self: pyautoattack.AutoAttack, version: str = "standard") -> None:
        original(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 5
        self.square.n_queries = 20

    pyautoattack.AutoAttack._set_version = reduced
    evidence = gather_evidence(
        Victim(network, 4, {"guide": guide}, model),
        draw(test, SETTINGS),
        SETTINGS,
        device=torch.device("cpu"),
        say=lambda line: None,
        cache=Cache(folder / "kept"),
    )
    write_whole(folder / "attacks.json", canonical_json(evidence.description))
    write_whole(folder / "images", b"".join(evidence.images[name].tobytes() for name in sorted(evidence.images)))
    evidence.outcomes.save(folder / "outcomes.parquet")


@pytest.fixture(scope="module")
def model() -> bytes:
    torch.manual_seed(0)
    return to_onnx(build_network("preact_resnet8", classes=4, channels=1, width=8).eval(), (8, 8, 1), opset=20)


def test_killed_at_random_moments_and_resumed(tmp_path: Path, model: bytes):
    # One process imports torch, its children are born with it: a kill costs nothing but the kill.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def process(folder: Path):
        folder.mkdir(exist_ok=True)
        started = context.Process(target=evaluate, args=(folder, model))
        started.start()
        return started

    def parts(folder: Path) -> int:
        return sum(path.is_file() for path in (folder / "kept").rglob("*"))

    whole = process(tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0
    moments, folder = random.Random(0), tmp_path / "killed"
    for kill in range(KILLS):
        worker = process(folder)
        # By what is done, not by the clock: how fast a machine is changes from one minute to the next.
        while worker.is_alive() and parts(folder) < parts(tmp_path / "whole") * kill / (KILLS + 1):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        assert worker.is_alive(), "there is a part left to be killed in"
        os.kill(worker.pid, signal.SIGKILL)  # type: ignore[arg-type]  # it was started
        worker.join()
    last = process(folder)
    last.join()
    assert last.exitcode == 0
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_was_kept_is_not_computed_again(tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch):
    """A finished evaluation's parts are enough: attacks are not called a second time."""
    evaluate(tmp_path, model)
    monkeypatch.setattr("pipeline.evaluation.tiers.trajectory", None)
    monkeypatch.setattr("pipeline.evaluation.tiers.margin_pgd", None)
    monkeypatch.setattr("pipeline.attacks.autoattack.autoattack", None)
    first = (tmp_path / "outcomes.parquet").read_bytes()
    evaluate(tmp_path, model)
    assert (tmp_path / "outcomes.parquet").read_bytes() == first and autoattack is not None
