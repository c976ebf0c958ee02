"""The smoothed classifiers: their votes on a sample, and their description. None of them is the one that is served."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.smoothing import EarlyEnd, Scores, certified_radii, early_end_rule, votes
from pipeline.attacks.saved import Part
from pipeline.evaluation.kept import Kept
from pipeline.networks.external import External
from pipeline.params import CertifySettings

#: Images that are voted on and kept together; no count depends on it.
PART = 8
#: Noisy copies in one pass, and the most pixels in one.
COPIES = {"cpu": 256, "cuda": 4096}
PIXELS = 2**22


def smoothed_columns(
    network: nn.Module,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    settings: CertifySettings,
    device: torch.device,
    *,
    kept: Kept | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, NDArray[Any]]:
    """Selected class, count and radius of every image uint8 (N, H, W, C) for every sigma; `index` seeds the noise.

    Finished parts lie in `kept`, so that a killed call goes on after the last; `say` is told a line of progress.
    """
    scores, columns = _scores(network, device), {}
    copies = max(1, min(COPIES.get(device.type, COPIES["cpu"]), PIXELS // images[0].size))
    for sigma in sigmas(settings):

        def part(start: int, sigma: float = sigma) -> Part:
            rows = slice(start, start + PART)
            found = votes(
                scores,
                images[rows].astype(np.float32) / np.float32(255),
                index=index[rows].tolist(),
                sigma=sigma,
                **settings.model_dump(include={"selection", "estimation", "seed"}),
                batch_size=copies,
                early_end=_early_end(settings),
            )
            return Part(torch.tensor([(vote.selected, vote.successes) for vote in found]))

        name = smoothed_name(sigma)
        selected, successes = _parts(name, part, len(images), kept or Kept(), say).T
        columns[f"{name}/selected"], columns[f"{name}/successes"] = selected, successes
        columns[f"{name}/radius"] = certified_radii(successes, settings.estimation, sigma, settings.alpha)
    return columns


def sigmas(settings: CertifySettings) -> list[float]:
    """The noise of each smoothed classifier, in the settings' order."""
    return list(settings.sigma) if isinstance(settings.sigma, list) else [settings.sigma]


def smoothed_name(sigma: float) -> str:
    """A smoothed classifier's name: it is another classifier than the one that answers."""
    return f"smoothed-{sigma:g}"


def describe(settings: CertifySettings, trained_with: float | None = None) -> list[dict[str, Any]]:
    """Each smoothing as the attestation's predicate records it; `trained_with` is the noise that training knew."""
    rule = _early_end(settings)
    optional = {"earlyEnd": rule and {"after": rule.after, "successes": rule.successes}, "noiseTrained": trained_with}
    return [
        {
            "name": smoothed_name(sigma),
            **settings.model_dump(include={"selection", "estimation", "alpha", "seed"}),
            "sigma": sigma,
            **{key: value for key, value in optional.items() if value is not None},
            "radii": _radii(settings, sigma),
            "statement": "About the smoothed classifier (the class that the served network answers most often under "
            "Gaussian noise), in l2, each image's radius with confidence 1 - alpha; /predict answers with the network.",
        }
        for sigma in sigmas(settings)
    ]


def _radii(settings: CertifySettings, sigma: float) -> list[float]:
    """Radii of the curve: 0 to 1, or to the largest that so many samples can prove, in tenths."""
    (largest,) = certified_radii(np.array([settings.estimation]), settings.estimation, sigma, settings.alpha)
    return [round(0.1 * step, 1) for step in range(max(10, math.ceil(10 * largest)) + 1)]


def _early_end(settings: CertifySettings) -> EarlyEnd | None:
    wanted = getattr(settings, "early_end", None)
    return early_end_rule(settings.estimation, settings.alpha) if wanted else None


def _parts(
    name: str, part: Callable[[int], Part], size: int, kept: Kept, say: Callable[[str], None]
) -> NDArray[np.int64]:
    """(N, 2) selected classes and counts, part after part; after each, rate, time left and how many abstain are said."""
    found: list[NDArray[np.int64]] = []
    begun, fresh = time.monotonic(), 0
    for start in range(0, size, PART):
        key, done = f"{name}/{start:06}", min(start + PART, size)
        held = kept.holds(key)
        found.append(kept.parts(key, lambda start=start: {"votes": part(start)})["votes"].images.numpy())
        if not held:
            fresh += done - start
            rate = fresh / (time.monotonic() - begun)
            say(f"{name}: {done}/{size} images, {rate:.1f} images/s, {(size - done) / rate:.0f} s left")
    return np.concatenate(found)


def _scores(network: nn.Module, device: torch.device) -> Scores:
    """The network's logits, on the CPU in the memory layout that is faster there for networks of this house.

    A network from elsewhere keeps its own layout: it may call view(), which asks for one.
    """
    channels_last = device.type == "cpu" and not isinstance(network, External)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = copy.deepcopy(network).to(device).to(memory_format=layout).eval()

    @torch.inference_mode()
    def scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        return network(given).float().cpu().numpy()

    return scores
