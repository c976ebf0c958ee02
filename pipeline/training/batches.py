"""What a step trains on: which rows of the training split, augmented and mixed, with which labels, on which device.

Whatever is drawn follows from the run's seed and the epoch, so that it needs no place in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bundle.errors import HallmarkError
from pipeline.data.augmentation import augment, cutmix
from pipeline.data.split import Split
from pipeline.methods import Batch
from pipeline.networks.blocks import to_unit
from pipeline.params import TrainSettings


class Batches:
    """Order, augmentation, CutMix and label smoothing, in this order; `generator` draws all of it, on the CPU.

    Images (N, C, H, W) stay uint8 until they are augmented and mixed, which is the same bits as floats would give, for
    a quarter of the memory traffic. Labels are classes (N,), and distributions (N, K) where they are mixed or smoothed.
    """

    def __init__(
        self,
        split: Split,
        settings: TrainSettings,
        sampling: Sampling,
        *,
        classes: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self.images, self.labels = on_device(split, device)
        self.settings, self.sampling, self.classes = settings, sampling, classes
        self.generator = torch.Generator().manual_seed(seed)

    def order(self, epoch: int) -> list[Tensor]:
        """The rows of every step of an epoch, on the CPU."""
        return self.sampling.epoch(epoch, self.generator)

    def batch(self, rows: Tensor, epoch: int, epochs: int, step: int) -> Batch:
        """The batch of these rows of the split."""
        rows = rows.to(self.images.device, non_blocking=True)
        images, labels = augment(self.images[rows], self.settings.augment or "none", self.generator), self.labels[rows]
        if self._mixes():
            images, labels = cutmix(images, labels, self.classes, self.generator)
        if self.settings.label_smoothing:
            labels = smoothed(labels, self.classes, self.settings.label_smoothing)
        return Batch(to_unit(images), labels, rows, epoch, epochs, step)

    def _mixes(self) -> bool:
        """Draws only where CutMix is on, so that a run without it has the same random numbers as ever."""
        share = self.settings.cutmix
        return share is not None and float(torch.rand((), generator=self.generator)) < share


def on_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """A split's images, uint8 (N, C, H, W), and labels (N,)."""
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
    return images.to(device), torch.from_numpy(split.labels).to(device)


def smoothed(labels: Tensor, classes: int, share: float) -> Tensor:
    """(1 − share) · label + share / classes, (N, K): torch's label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

    Parameters: `labels`, classes (N,) or distributions (N, K); `share` in [0, 1] is spread over all classes, the true
    one included. Cross-entropy with the result is `cross_entropy(…, label_smoothing=share)` with the classes.
    """
    distributions = functional.one_hot(labels, classes).float() if labels.dim() == 1 else labels
    return (1 - share) * distributions + share / classes


Purpose = Literal["extra rows", "noise after a roll-back", "order after a roll-back"]


def derived_seed(seed: int, purpose: Purpose, number: int) -> int:
    """A seed for torch, 64 bits: another one for each purpose and number, always the same for the same three."""
    entropy = [seed, get_args(Purpose).index(purpose), number]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def reseed(generator: torch.Generator, seed: int, roll_backs: int) -> None:
    """Other random numbers for torch's global generators and for `generator`, after each of the roll-backs."""
    torch.manual_seed(derived_seed(seed, "noise after a roll-back", roll_backs))
    generator.manual_seed(derived_seed(seed, "order after a roll-back", roll_backs))


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
        """Steps per epoch: nearly equal batches instead of a small last one, whose statistics would be worth little."""
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
