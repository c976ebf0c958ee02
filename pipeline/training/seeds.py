"""Seeds that follow from the run's seed, so that what they draw needs no place in a checkpoint."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

Purpose = Literal["extra rows", "noise after a roll-back", "order after a roll-back"]


def derived_seed(seed: int, purpose: Purpose, number: int) -> int:
    """A seed for torch, 64 bits: another one for each purpose and number, always the same for the same three."""
    entropy = [seed, get_args(Purpose).index(purpose), number]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def reseed(generator: torch.Generator, seed: int, roll_backs: int) -> None:
    """Other random numbers for torch's global generators and for `generator`, after each of the roll-backs."""
    torch.manual_seed(derived_seed(seed, "noise after a roll-back", roll_backs))
    generator.manual_seed(derived_seed(seed, "order after a roll-back", roll_backs))
