"""Which rows of the training split each step sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.training.seeds import derived_seed


@dataclass(frozen=True)
class Sampling:
    """Shuffled batches; where the split has additional images, each batch has a fixed number of them.

    Rows 0 … own − 1 are the data set's own images, the `extra` rows after them additional ones. Of every batch,
    round(share · batch_size) rows are additional, but never all. An epoch is one pass over the own rows; the additional
    ones are shuffled, used up over as many steps as that takes, and shuffled again.
    """

    own: int
    extra: int
    share: float
    batch_size: int
    seed: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any], images: int, *, batch_size: int, seed: int) -> Sampling:
        """As the manifest of a training split with so many images says; raises HallmarkError where the two disagree."""
        own = manifest["splits"]["train"].get("own", images)
        if not 0 < own <= images:
            raise HallmarkError(
                f"manifest.json: splits.train.own must be 1 to {images}, the images of train.npz, got {own}; "
                "make both again with the stage prepare (`dvc repro prepare`)"
            )
        share = manifest["settings"]["extra_share"] if own < images else 0.0
        sampling = cls(own, images - own, share, batch_size, seed)
        if sampling.extra and not sampling.extra_a_step:
            raise HallmarkError(
                f"data.extra_share: {share:g} of a batch of {batch_size} is no whole image; raise it, or train.batch_size"
            )
        return sampling

    @property
    def extra_a_step(self) -> int:
        """Additional rows in every batch."""
        return min(round(self.share * self.batch_size), self.batch_size - 1) if self.extra else 0

    @property
    def steps(self) -> int:
        """Steps an epoch: nearly equal batches instead of a small last one, whose statistics would be worth little."""
        return max(1, round(self.own / (self.batch_size - self.extra_a_step)))

    @property
    def images_an_epoch(self) -> int:
        """Images that the steps of an epoch see, the additional ones included."""
        return self.own + self.steps * self.extra_a_step

    def epoch(self, number: int, generator: torch.Generator) -> list[Tensor]:
        """The rows (B,) of every step of epoch `number` (from 0); `generator` shuffles the own ones."""
        own = torch.tensor_split(torch.randperm(self.own, generator=generator), self.steps)
        if not self.extra_a_step:
            return list(own)
        extra = self._extra_rows(number).reshape(self.steps, self.extra_a_step)
        return [torch.cat(rows) for rows in zip(own, extra, strict=True)]

    def _extra_rows(self, epoch: int) -> Tensor:
        """The epoch's part of an endless list: one shuffle of all additional rows after another."""
        count = self.steps * self.extra_a_step
        first, last = epoch * count // self.extra, ((epoch + 1) * count - 1) // self.extra
        shuffles = torch.cat([self._shuffle(number) for number in range(first, last + 1)])
        return self.own + shuffles[epoch * count - first * self.extra :][:count]

    def _shuffle(self, number: int) -> Tensor:
        # Its own generator: where the list is follows from the epoch, so checkpoints need not hold the list.
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "extra rows", number))
        return torch.randperm(self.extra, generator=generator)
