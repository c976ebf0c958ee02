"""The smoothed classifiers: their votes on a sample, and their description. None of them is the one that is served.

Certified accuracy by radius as a file that DVC plots, and as flat numbers that it compares.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.numbers.smoothing import EarlyEnd, Scores, certified_radii, early_end_rule, votes
from pipeline.networks.external import External
from pipeline.params import CertifySettings
from pipeline.run.cache import Cache, Part
from pipeline.run.devices import in_layout

#: Images that are voted on and kept together; no count depends on it.
PART = 8
#: Noisy copies in one pass, and the most pixels in one.
COPIES = {"cpu": 256, "cuda": 4096}
PIXELS = 2**22
VOTES = "votes"
#: Between two lines of progress.
SECONDS = 2


def smoothed_columns(
    network: nn.Module,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    settings: CertifySettings,
    device: torch.device,
    *,
    cache: Cache | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, NDArray[Any]]:
    """Selected class, count and radius of every image uint8 (N, H, W, C) for every sigma; `index` seeds the noise.

    Finished parts lie in `cache`, so that a killed call goes on after the last; `say` is told a line of progress.
    """
    scores, cache = _scores(network, device), cache or Cache()
    columns: dict[str, NDArray[Any]] = {}
    for sigma in sigmas(settings):
        vote = partial(_vote, scores, settings=settings, sigma=sigma, copies=_copies(images, device))
        proved = partial(certified_radii, samples=settings.estimation, sigma=sigma, alpha=settings.alpha)
        name = smoothed_name(sigma)
        selected, successes = _counted(name, vote, images, index, cache, proved, say).T
        columns |= {f"{name}/selected": selected, f"{name}/successes": successes, f"{name}/radius": proved(successes)}
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
    wanted = settings.early_end
    return early_end_rule(settings.estimation, settings.alpha) if wanted else None


def _counted(
    name: str,
    vote: Callable[..., Part],
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    cache: Cache,
    proved: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    say: Callable[[str], None],
) -> NDArray[np.int64]:
    """(N, 2) selected classes and counts, part after part; what is not kept yet is voted on, with a line of progress."""
    counted, fresh = np.zeros((0, 2), dtype=np.int64), 0
    begun = told = time.monotonic()
    for start in range(0, len(images), PART):
        rows, key = slice(start, start + PART), f"{name}/{start:06}"
        held = cache.has(key)
        part = cache.parts(key, lambda rows=rows: {VOTES: vote(images[rows], index[rows])})[VOTES]
        counted = np.concatenate([counted, part.images.numpy()])
        fresh += 0 if held else len(part.images)
        done, now = len(counted), time.monotonic()
        if fresh and (now - told >= SECONDS or done == len(images)):
            told, rate = now, fresh / (now - begun)
            say(
                f"{name}: {done}/{len(images)} images, {(proved(counted[:, 1]) > 0).mean():.0%} of them with a radius, "
                f"{rate:.1f} images/s, {(len(images) - done) / rate:.0f} s left"
            )
    return counted


def _vote(
    scores: Scores,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    *,
    settings: CertifySettings,
    sigma: float,
    copies: int,
) -> Part:
    """One part's selected classes and counts (n, 2)."""
    found = votes(
        scores,
        images.astype(np.float32) / np.float32(255),
        index=index.tolist(),
        sigma=sigma,
        **settings.model_dump(include={"selection", "estimation", "seed"}),
        batch_size=copies,
        early_end=_early_end(settings),
    )
    return Part(torch.tensor([(vote.selected, vote.successes) for vote in found]))


def _copies(images: NDArray[np.uint8], device: torch.device) -> int:
    """Noisy copies in one pass: what is fast on the device, and not more than fits."""
    return max(1, min(COPIES.get(device.type, COPIES["cpu"]), PIXELS // images[0].size))


def _scores(network: nn.Module, device: torch.device) -> Scores:
    """The network's logits, on the CPU in the memory layout that is faster there for networks of this house.

    A network from elsewhere keeps its own layout: it may call view(), which asks for one.
    """
    channels_last = device.type == "cpu" and not isinstance(network, External)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = in_layout(copy.deepcopy(network).to(device), layout).eval()

    @torch.inference_mode()
    def scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        return network(given).float().cpu().numpy()

    return scores


#: What smoothing_bounds() gives for each smoothed classifier, in the settings' order: its curve, then the average radius.
Bounds = Sequence[Sequence[dict[str, Any]]]


def curve_csv(bounds: Bounds) -> bytes:
    """The first smoothed classifier's curve with its interval, and the others' beside it, a column each."""
    first, *others = [{bound["radius"]: bound for bound in curve} for *curve, _ in bounds]
    names = [curve[0]["classifier"] for *curve, _ in bounds[1:]]
    rows = [["radius", "certified_accuracy", "lower", "upper", *names]]
    for radius in sorted({radius for curve in (first, *others) for radius in curve}):
        bound = first.get(radius)
        cells = [bound["value"], *bound["interval"]] if bound else [None] * 3
        cells += [curve[radius]["value"] if radius in curve else None for curve in others]
        rows.append([str(radius), *("" if cell is None else f"{cell:.6f}" for cell in cells)])
    return "".join(",".join(row) + "\n" for row in rows).encode()


def curve_metrics(bounds: Bounds) -> dict[str, Any]:
    """The first smoothed classifier's numbers, and those of the others below their names."""
    first, *others = [
        {f"certified_at_{bound['radius']}": bound["value"] for bound in curve}
        | {"average_certified_radius": average["value"]}
        for *curve, average in bounds
    ]
    return {**first, **{of[-1]["classifier"]: found for of, found in zip(bounds[1:], others, strict=True)}}


def curve_sentence(curve: Sequence[dict[str, Any]]) -> str:
    """Certified accuracy at up to three radii: the smallest, and those a quarter and half of the way along the curve.

    Not the mean radius, which a trivial classifier can make arbitrarily large (arXiv 2410.06895).
    """
    chosen = [curve[place] for place in dict.fromkeys(len(curve) * quarters // 4 for quarters in (0, 1, 2))]
    return "certified accuracy " + ", ".join(f"{bound['value']:.1%} at l2 {bound['radius']:g}" for bound in chosen)
