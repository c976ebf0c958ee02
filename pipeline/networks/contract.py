"""What every part behind a network relies on, checked before anything long is run with it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.networks.registry import NetworkError

#: Two batches of other sizes may round otherwise; a share of the largest logit.
ROUNDING = 1e-3
PROBES = 4


def check_network(network: nn.Module, images: NDArray[np.uint8], classes: int) -> None:
    """Checks that a network in eval mode keeps the contract: float images in [0, 1] to logits (N, classes).

    `images` are some of the data, uint8 (N, H, W, C), at least one. Checked on them: it takes their shape, in batches of
    any size; the logits are float32, finite, as many as there are classes; a second pass gives the same; no image's
    answer depends on the others of its batch. Raises NetworkError with the first that does not hold.
    """
    if training := [name or "the network" for name, module in network.named_modules() if module.training]:
        raise NetworkError(f"network: {training[0]} stays in training mode after eval()")
    probes = torch.from_numpy(images[:PROBES]).permute(0, 3, 1, 2).contiguous() / 255
    logits = _logits(network, probes)
    if not isinstance(logits, Tensor):
        raise NetworkError(f"network: must return logits as one tensor, returned a {type(logits).__name__}")
    if logits.shape != (len(probes), classes):
        raise NetworkError(
            f"network: must return logits (N, {classes}), one for each class of the data; for {len(probes)} images it "
            f"returned {tuple(logits.shape)}"
        )
    if logits.dtype != torch.float32:
        raise NetworkError(f"network: must return float32, returned {logits.dtype}; call .float() in the factory")
    if not torch.isfinite(logits).all():
        raise NetworkError("network: must return finite logits, returned NaN or infinity for images of the data")
    if not torch.equal(logits, _logits(network, probes)):
        raise NetworkError(
            "network: must be deterministic, a second pass over the same images gave other logits; noise or dropout is "
            "on in eval mode"
        )
    alone = torch.cat([_logits(network, probe[None]) for probe in probes])
    if (alone - logits).abs().max() > ROUNDING * max(1.0, float(logits.abs().max())):
        raise NetworkError("network: must answer each image by itself, an image alone got other logits than in a batch")


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    try:
        return network(images)
    except NetworkError:
        raise
    except Exception as error:  # whatever the network raises
        reason = " ".join(str(error).split())[:300]
        raise NetworkError(
            f"network: must take float images of shape (N, {', '.join(map(str, images.shape[1:]))}), the data's, failed "
            f"with {type(error).__name__}: {reason}"
        ) from None
