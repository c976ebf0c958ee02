"""Checks that a robustness number must pass before it is believed: each a statistic, a threshold, and what it means.

After Carlini et al. 2019 (arXiv 1902.06705), Zimmermann et al. 2022 (arXiv 2206.13991) and the warnings of AutoAttack.
They judge fractions, not single images: random starts move a few images on honest models. Here is which checks a tier
runs, in order. What needs the data's record or the outcome table alone (sanity.answers) is judged where the predicate is
collected.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.effort import (
    comparisons,
    gradient_checks,
    large_eps,
    large_threat,
    more_steps,
    single_step,
    temperature,
)
from pipeline.evaluation.sanity.measured import Item, Measured, fingerprint, network_checks
from pipeline.evaluation.sanity.planted import planted
from pipeline.evaluation.victim import Sample, Victim

__all__ = ["Measured", "fingerprint", "large_threat", "sanity_checks"]


#: Images that checks with attacks of their own look at, and those that the planted test does: each needs a readout.
IMAGES, PLANTED_IMAGES = 200, 32


class Notes(Protocol):
    """Returns the items of this name that were cached before, or computes and caches them."""

    def __call__(self, key: str, compute: Callable[[], list[Item]], /) -> list[Item]: ...


def compute_anew(key: str, compute: Callable[[], list[Item]], /) -> list[Item]:
    """Keeps nothing."""
    return compute()


def sanity_checks(
    victim: Victim,
    sample: Sample,
    threat: Threat,
    measured: Measured,
    *,
    seed: int,
    tier: str,
    keep: Notes = compute_anew,
) -> list[Item]:
    """Runs the tier's checks at one threat; returns the predicate's `sanity`.

    Parameters
    ----------
    victim, sample : what was attacked, the network in eval mode on the sample's device.
    measured : what the attacks at this threat found on the whole sample. Checks that compare attacks read it; one
        whose attacks are not in it is left out.
    seed : the evaluation's; the checks that attack do so on the first 200 images of the sample.
    tier : quick, standard or thorough. `quick` leaves out more_steps, temperature and planted.
    keep : caches the items of a check, so that a killed evaluation does not compute them again.

    Each item is {check, statistic, comparator, threshold, outcome, passed, meaning} and, where the check is about the
    ball, `threat`. Every check passes up to its own limit, then warns, and fails beyond `threshold`.
    """
    items = keep("network", lambda: _about_the_network(victim, sample, measured))
    for name, compute in _about_the_threat(victim, sample, threat, measured, seed, tier):
        items += [{**item, "threat": threat.name} for item in keep(f"{threat.name}/{name}", compute)]
    return items


def _about_the_network(victim: Victim, sample: Sample, measured: Measured) -> list[Item]:
    part = next(sample.batches(IMAGES))
    return [*network_checks(victim.network, sample, part, measured), *gradient_checks(victim.network, part)]


def _about_the_threat(
    victim: Victim, sample: Sample, threat: Threat, measured: Measured, seed: int, tier: str
) -> Iterator[tuple[str, Callable[[], list[Item]]]]:
    network, part = victim.network, next(sample.batches(IMAGES))
    known = measured.first(len(part))
    yield "comparisons", lambda: list(comparisons(measured))
    yield "single_step", lambda: list(single_step(network, part, threat, known))
    yield "large_eps", lambda: [large_eps(network, part, threat, seed=seed)]
    if tier == "quick":
        return
    yield "more_steps", lambda: [more_steps(network, part, known.under(known.right), threat, seed=seed)]
    yield "temperature", lambda: [temperature(network, part, threat, seed=seed)]
    few = next(sample.batches(PLANTED_IMAGES))
    yield "planted", lambda: [planted(network, few, threat, seed=seed)]
