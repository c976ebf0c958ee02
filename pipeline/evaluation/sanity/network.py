"""Whether the network answers the same twice, and the same after the attacks as before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.evaluation.sanity.item import Item, at_most, slack
from pipeline.evaluation.sanity.measured import Measured
from pipeline.evaluation.victim import Sample

BATCH = 256
#: Sums in another order on an accelerator: a share of the largest logit, far below what noise as a defence adds.
ROUNDING = 1e-4


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of all weights and buffers with their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_checks(network: nn.Module, sample: Sample, part: Sample, measured: Measured) -> Iterator[Item]:
    """The forward pass on `part`; clean accuracy and weights after the attacks, on the whole sample."""
    yield at_most(
        "deterministic",
        _repeat_difference(network, part.images),
        warn=0.0,
        fail=ROUNDING,
        meaning="largest difference of logits between two forward passes, as a share of the largest logit",
    )
    count = len(sample)
    yield at_most(
        "clean_accuracy_same",
        _moved(network, sample, measured),
        # Verdicts on the edge between two classes can move with the batch; an attack that harms the network moves more.
        warn=0.0,
        fail=slack(count),
        meaning="share of clean images whose verdict after the attacks is another than before",
    )
    if measured.fingerprint is not None:
        yield at_most(
            "weights_same",
            float(fingerprint(network) != measured.fingerprint),
            fail=0.0,
            meaning="1 where weights or statistics of the network are others after the attacks than before",
        )


@torch.no_grad()
def _repeat_difference(network: nn.Module, images: Tensor) -> float:
    first, second = network(images), network(images)
    share = (first - second).abs().max() / first.abs().max().clamp_min(torch.finfo(first.dtype).tiny)
    # Logits that are not finite are no answer: they count as different.
    return float(share.nan_to_num(nan=1.0))


@torch.no_grad()
def _moved(network: nn.Module, sample: Sample, measured: Measured) -> float:
    right = torch.cat([network(part.images).argmax(1) == part.labels for part in sample.batches(BATCH)])
    return float((right.cpu() != torch.from_numpy(measured.clean)).double().mean())
