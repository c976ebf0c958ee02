"""pyautoattack without its side effects: what its attacks change beside their images is put back.

It reseeds torch's generators, switches the tracer off, counts calls in a global table that is never emptied (one dynamic
defence and every later model is called one), leaves gradients in the network's weights, and writes its warnings to a
logger.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def contained(model: object) -> Iterator[None]:
    """Puts torch's generators, the tracer, pyautoattack's table of calls and the network's gradients back as they were.

    Inside, the network's weights ask for no gradient: the attacks need none, and FAB would compute them for nothing.
    """
    from pyautoattack import checks

    tracer, calls = sys.gettrace(), dict(checks.funcs)
    checks.funcs.update(dict.fromkeys(calls, 0))
    weights = [weight for weight in _weights(model) if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        with torch.random.fork_rng(_devices()):
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        checks.funcs.update(calls)
        sys.settrace(tracer)


def _weights(model: object) -> list[nn.Parameter]:
    return list(model.parameters()) if isinstance(model, nn.Module) else []


def _devices() -> list[int]:
    """The devices whose generators may change: pyautoattack seeds CUDA's, even where it works on the CPU."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


class Lines(logging.Handler):
    """Keeps what AutoAttack's log says about the model, and passes its progress on.

    `checks`: whether what its checks of the model say counts. They come before the first attack starts.
    """

    def __init__(self, progress: Callable[[str], None] | None, checks: bool = True) -> None:
        super().__init__()
        self.progress = progress
        self.listening = checks
        self.flags: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if record.levelno < logging.WARNING:
            self.listening = self.listening or line.startswith("running ")
            if self.progress is not None:
                self.progress(line)
        # Square's warning is a share of all images, which square_flags judges.
        elif self.listening and line not in self.flags and not line.startswith("Square Attack has decreased"):
            self.flags.append(line)


@contextmanager
def log_lines(progress: Callable[[str], None] | None = None, checks: bool = True) -> Iterator[Lines]:
    """Listens to AutoAttack's logger, and to nobody else's."""
    logger = logging.getLogger("auto-attack")
    lines, before = Lines(progress, checks), (logger.level, logger.propagate)
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before[0])
        logger.propagate = before[1]
