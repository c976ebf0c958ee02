"""Whatever a test trains is proved and attacked at its end: no image may be both certified and broken."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from bundle.digests import sha256_bytes
from pipeline.networks.serialisation import weights_bytes
from pipeline.training.loop import Training
from tests.pipeline.certification.networks import own_labels
from tests.pipeline.certification.soundness import assert_sound

#: Of the validation split; a bisection costs tenths of a second per image.
IMAGES = 2
CHECKED: set[str] = set()
#: As the environment asks for.
THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Stages set the number of threads for their process: no test leaves its own to the next."""
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(THREADS)


@pytest.fixture(autouse=True)
def sound_when_trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Collects the networks of this test's trainings, and checks them once the test has ended."""
    trained: list[tuple[nn.Module, Any]] = []
    original = Training.run

    def run(self: Training, *arguments: Any, **options: Any) -> bool:
        finished = original(self, *arguments, **options)
        images = self.validation[0][:IMAGES].permute(0, 2, 3, 1).cpu().contiguous().numpy()
        trained.append((copy.deepcopy(self.network()).cpu().eval(), images))
        return finished

    monkeypatch.setattr(Training, "run", run)
    yield
    for network, images in trained:
        # A run that was resumed or repeated ends in the same weights.
        digest = sha256_bytes(weights_bytes(network))
        if digest not in CHECKED:
            CHECKED.add(digest)
            assert_sound(network, images, own_labels(network, images).numpy())
