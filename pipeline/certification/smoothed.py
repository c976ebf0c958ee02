"""Randomized smoothing: the votes of noisy copies, early ends, and the smoothed classifiers as an attestation describes them.

Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019 (arXiv 1902.02918),
algorithm CERTIFY. The certificate is about the smoothed classifier g(x) = the class that f(x + noise) answers most
often. None of them is the one that is served.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.numbers.intervals import lower_bound
from bundle.numbers.proofs import certified_radii
from pipeline.networks.external import External
from pipeline.params import CertifySettings
from pipeline.run.cache import Cache, Part
from pipeline.run.devices import in_layout

#: Images that are voted on and cached together; no count depends on it.
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
    """(N, 2) selected classes and counts, part after part; what is not cached yet is voted on, with a line of progress."""
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


# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false


Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Stands for "no answer" in the prediction column.
ABSTAIN = -1
#: A hopeless image ends after this fraction of the estimation sample, and after no more copies than this.
FIRST_PART, FIRST_COPIES = 0.1, 1000
#: The chance per image that ending early costs a radius that the whole sample would have proved.
COST = 1e-4


@dataclass(frozen=True)
class Vote:
    """What the noisy copies of one image said: the class that the first sample selected, and its count in the second."""

    selected: int
    successes: int


@dataclass(frozen=True)
class EarlyEnd:
    """An image whose selected class has at most `successes` of the first `after` estimation copies ends there.

    Its count stays the one of that first part, so that the ended images are exactly those with a count of at most
    `successes`. They have radius 0. Whatever the rule, the radii keep their confidence: each is the one that the whole
    sample proves, or 0, so that it is too large in no case in which the whole sample's is not.
    """

    after: int
    successes: int


def votes(
    scores: Scores,
    images: NDArray[np.float32],
    *,
    index: Sequence[int],
    sigma: float,
    selection: int,
    estimation: int,
    seed: int,
    batch_size: int = 1000,
    early_end: EarlyEnd | None = None,
) -> list[Vote]:
    """For each image, selects a class with `selection` noisy copies and counts it in `estimation` others.

    Parameters
    ----------
    scores : maps float32 images (B, H, W, C) to scores (B, K); pixels may leave [0, 1], noise is not clamped.
    images : float32 (N, H, W, C) in [0, 1], N ≥ 1.
    index : each image's row in its split. The noise is drawn from (seed, index), copy after copy, so that it depends
        neither on the other images nor on the batches; another sigma scales the same noise.
    sigma : standard deviation of the Gaussian noise, in units of the pixel range.
    batch_size : noisy copies in one call of `scores`, those of several images together.
    early_end : where images end whose class is no majority; None counts the whole sample.
    """
    draws = [np.random.default_rng([seed, int(row)]) for row in index]

    def counts(rows: NDArray[np.intp], copies: int) -> NDArray[np.int64]:
        return _counts(scores, images, rows, draws, copies, sigma, batch_size)

    everyone = np.arange(len(images))
    selected = counts(everyone, selection).argmax(axis=1)
    first = early_end.after if early_end else estimation
    successes = counts(everyone, first)[everyone, selected]
    going_on = everyone[successes > early_end.successes] if early_end else everyone[:0]
    if len(going_on) and first < estimation:
        successes[going_on] += counts(going_on, estimation - first)[np.arange(len(going_on)), selected[going_on]]
    return [Vote(int(chosen), int(count)) for chosen, count in zip(selected, successes, strict=True)]


def _counts(
    scores: Scores,
    images: NDArray[np.float32],
    rows: NDArray[np.intp],
    draws: Sequence[np.random.Generator],
    copies: int,
    sigma: float,
    batch_size: int,
) -> NDArray[np.int64]:
    """The answers to the next `copies` noisy copies of each of `rows`: (len(rows), K) counts by class."""
    owners = np.repeat(np.arange(len(rows)), copies)
    total: NDArray[np.int64] | None = None
    for start in range(0, len(owners), batch_size):
        owner = owners[start : start + batch_size]
        noisy = images[rows[owner]]
        for place in np.unique(owner):
            mine = slice(*np.searchsorted(owner, [place, place + 1]))
            shape = (mine.stop - mine.start, *images.shape[1:])
            noisy[mine] += np.float32(sigma) * draws[int(rows[place])].standard_normal(shape, dtype=np.float32)
        answers = scores(noisy)
        if total is None:
            total = np.zeros((len(rows), answers.shape[1]), dtype=np.int64)
        np.add.at(total, (owner, answers.argmax(axis=1)), 1)
    assert total is not None  # copies ≥ 1
    return total


@lru_cache(maxsize=64)
def early_end_rule(samples: int, alpha: float) -> EarlyEnd | None:
    """Where hopeless images end, of `samples` estimation copies at `alpha`; None where no count is hopeless so soon.

    The count k after the first m copies is the largest with P(K_m ≤ k and K_n ≥ c) ≤ COST for every probability of the
    selected class, c the smallest count that proves a majority: ending costs a radius with that chance at most.
    """
    from scipy.stats import binom  # half a second

    needed = next((count for count in range(samples // 2, samples + 1) if lower_bound(count, samples, alpha) > 0.5), 0)
    after = min(int(FIRST_PART * samples), FIRST_COPIES)
    if not needed or not after:
        return None
    chances = np.linspace(0.0, 1.0, 1001)
    cost, reached = np.zeros_like(chances), -1
    for count in range(after):
        cost += binom.pmf(count, after, chances) * binom.sf(needed - count - 1, samples - after, chances)
        if cost.max() > COST:
            break
        reached = count
    return EarlyEnd(after, reached) if reached >= 0 else None
