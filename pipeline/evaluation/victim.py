"""What is attacked: the served network, what it was trained with, and the file that answers, which must agree with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.layout import WEIGHTS, check_size
from bundle.served.runtime import OnnxClassifier
from pipeline.attacks.pgd import pgd
from pipeline.attacks.threat import Threat, to_grid
from pipeline.data.split import Split, stratified
from pipeline.networks.serialisation import ServedNetwork
from pipeline.params import AttackSettings
from pipeline.run.records import Folders

#: What methods call the networks that they train beside the served one, before the number or norm.
COTRAINED = ("guide", "peer", "specialist")


@dataclass(frozen=True)
class Victim:
    """`network` maps images (N, C, H, W) in [0, 1] to logits (N, K); it and the companions are in eval mode, on one device.

    `companions` are other networks on the same images, by name: the `guide` and the `peer_1` of co-training, or
    other models that adversarial images are carried over from. `model` is model.onnx, for attacks by queries alone.
    """

    network: nn.Module
    classes: int
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    model: bytes | None = None

    @property
    def cotrained(self) -> dict[str, nn.Module]:
        """The companions that a method trained beside the network, as Method names them."""
        return {name: network for name, network in self.companions.items() if name.split("_")[0] in COTRAINED}


@dataclass(frozen=True)
class Sample:
    """Images float (N, C, H, W) in [0, 1], labels (N,), rows in the test split (N,), on the device that attacks."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[Sample]:
        for rows in torch.arange(len(self)).split(size):
            yield Sample(self.images[rows], self.labels[rows], self.index[rows])


@dataclass(frozen=True)
class Drawn:
    """The images that are attacked: uint8 (N, H, W, C), labels (N,), rows of the test split (N,), how they were drawn."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    of: int
    seed: int
    rule: str

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self) -> dict[str, Any]:
        """The sample as the attestation's predicate records it."""
        return {"size": len(self), "of": self.of, "seed": self.seed, "rule": self.rule}


def draw(test: Split, settings: AttackSettings) -> Drawn:
    """A stratified sample of the test split, or all of it."""
    rows = stratified(test.labels, settings.images or len(test), settings.seed)
    drawn = test.take(rows)
    rule = "stratified draw from the test split: every class keeps its share"
    return Drawn(drawn.images, drawn.labels, rows, len(test), settings.seed, rule)


#: Clean images that are compared, fewer of larger ones, and how many numbers they have together.
IMAGES, FEWEST, NUMBERS = 256, 16, 2**22
BATCH = 64
THREAT = Threat("linf", 8)


def require_fit(folders: Folders, classifier: OnnxClassifier, manifest: Mapping[str, Any]) -> None:
    """Raises HallmarkError where the exported file takes other images, or knows other classes, than the data has.

    So it does where it or the weights are larger than a bundle may hold.
    """
    for path in (folders.model, folders.trained / WEIGHTS):
        check_size(path.name, path.stat().st_size)
    takes, data = (classifier.image_shape, classifier.classes), (manifest["image_shape"], len(manifest["classes"]))
    if takes != (tuple(data[0]), data[1]):
        raise HallmarkError(
            f"{folders.model}: takes images {list(takes[0])} of {takes[1]} classes, {folders.data / 'manifest.json'} has "
            f"{data[0]} of {data[1]}; `dvc repro` makes both"
        )


def check_parity(network: nn.Module, model: bytes, split: Split, *, tolerance: float, threads: int) -> dict[str, Any]:
    """Compares logits and classes on clean, adversarial (PGD-10, 8/255) and noise images, in batches of 1, 3 and all.

    `tolerance` is a fraction of the largest logit (or of 1, where that is larger): float32 has no more to promise.
    Returns what the attestation's `parity` records, the tolerance in logits. Raises HallmarkError where a logit differs
    by more, or a class differs.
    """
    count = min(IMAGES, max(FEWEST, NUMBERS // split.images[0].size), len(split))
    split = split.take(np.arange(count))
    noise = np.random.default_rng(0).integers(0, 256, split.images.shape, dtype=np.uint8)
    images = np.concatenate([split.images, _adversarial(network, split), noise])
    classifier = OnnxClassifier(model, threads=threads, device="cpu")
    expected = torch_logits(network, images)
    found = classifier.logits_in_batches(images, BATCH)
    tolerance *= max(1.0, float(np.abs(expected).max()))
    for batch in (1, 3):
        if not np.abs(classifier.logits_in_batches(images[:BATCH], batch) - found[:BATCH]).max() <= tolerance:
            raise HallmarkError(f"model.onnx answers otherwise in a batch of {batch} than in a large one")
    if found.shape != expected.shape:
        raise HallmarkError(f"model.onnx has {found.shape[1]} classes, the network {expected.shape[1]}")
    difference = float(np.abs(expected - found).max())
    if not difference <= tolerance:  # so written, logits that are no numbers fail
        raise HallmarkError(
            f"logits of model.onnx differ from torch's by {difference:.2e}, export.tolerance allows {tolerance:.2e}"
        )
    disagreements = int((expected.argmax(1) != found.argmax(1)).sum())
    if disagreements:
        raise HallmarkError(f"model.onnx gives another class than torch on {disagreements} of {len(images)} images")
    return {
        "largestLogitDifference": difference,
        "tolerance": tolerance,
        "disagreements": disagreements,
        "images": len(images),
    }


@torch.no_grad()
def torch_logits(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The network's own logits (N, K) on the CPU for images uint8 (N, H, W, C), in float32."""
    served = ServedNetwork(network)
    return torch.cat([served(batch) for batch in torch.from_numpy(images).split(BATCH)]).numpy()


def _adversarial(network: nn.Module, split: Split) -> NDArray[np.uint8]:
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2)
    labels, index = torch.from_numpy(split.labels), torch.arange(len(split))
    found = [
        pgd(network, images[rows] / 255, labels[rows], threat=THREAT, seed=0, index=index[rows], steps=10)
        for rows in index.split(BATCH)
    ]
    return to_grid(torch.cat(found), images, THREAT).permute(0, 2, 3, 1).contiguous().numpy()
