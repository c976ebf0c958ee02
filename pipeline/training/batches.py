"""The training images on the device, and the batches that the steps see."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.attacks.threat import to_unit
from pipeline.data.augmentation import augment
from pipeline.data.mixing import cutmix
from pipeline.data.split import Split
from pipeline.methods import Batch
from pipeline.params import TrainSettings
from pipeline.training.labels import smoothed
from pipeline.training.sampling import Sampling


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
        rows = rows.to(self.images.device)
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
