"""Evidence of an evaluation: the outcome table's reference columns, and the adversarial images on the 8-bit grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.served.runtime import OnnxClassifier
from bundle.table.outcomes import Outcomes, image_digests
from pipeline.attacks.grid import search_grid
from pipeline.attacks.threat import Threat
from pipeline.evaluation.columns import ReferenceColumns, corruption_columns, describe_corruptions
from pipeline.evaluation.running import (
    AttackFinding,
    AttackTask,
    check_planned,
    run_suite,
    run_tasks,
    tasks,
    worker_processes,
)
from pipeline.evaluation.sanity import Measured, fingerprint, sanity_checks
from pipeline.evaluation.surface import loss_surface
from pipeline.evaluation.tiers import CW_SETTINGS, Job, attacked_threats, jobs, main_threats, minimum_norm, sweep_jobs
from pipeline.evaluation.victim import Drawn, Sample, Victim
from pipeline.networks.blocks import to_unit
from pipeline.params import AttackSettings
from pipeline.run.cache import Cache
from pipeline.run.devices import in_layout, pays_off
from pipeline.run.environment import own_harness


@dataclass(frozen=True)
class Evidence:
    """What the attack stage leaves: outcomes (reference columns), images by name (uint8 NHWC), and how they were made."""

    outcomes: Outcomes
    images: dict[str, NDArray[np.uint8]]
    description: dict[str, Any]


def gather_evidence(
    victim: Victim,
    drawn: Drawn,
    settings: AttackSettings,
    *,
    device: torch.device,
    say: Callable[[str], None],
    wanted: Threat | None = None,
    cache: Cache | None = None,
    processes: int = 1,
) -> Evidence:
    """Attacks a network on a sample, in float32, with everything that the tier asks for.

    `wanted` is the threat that the model should withstand: the attacked one that answers for it is the headline's, and
    the curve, the checks and the surface are about it.

    Every attack's candidate is cached, whether it broke the image or not: on the grid and in ONNX Runtime it is judged
    anew. What `cache` holds from a call that was killed is not computed again; with it, several `processes` may share
    the attacks. Neither changes a number.
    """
    cache, untouched = cache or Cache(), fingerprint(victim.network)
    victim, sample = on_device(victim, drawn, device)
    corrupting = settings.tier != "quick" and victim.model is not None
    check_planned(drawn.images.shape, _plan(victim, sample, settings, wanted, say), corrupting)
    main = main_threats(settings, wanted)
    attacked = attack_sample(victim, sample, drawn, settings, wanted=wanted, say=say, cache=cache, processes=processes)
    sweep = swept(settings, main[0])
    distances = _distances(victim, sample, settings, cache) if settings.tier == "thorough" else {}
    corrupted = _corruptions(victim, drawn, settings, say, cache) if corrupting else {}
    outcomes = Outcomes(attacked.columns | distances | corrupted)
    description = {
        "tier": settings.tier,
        "sample": drawn.describe(),
        "threats": [threat.describe() for threat in sorted((*main, *sweep), key=_order)],
        "mainThreats": [threat.name for threat in main],
        "attacks": attacked.records,
        "unions": unions(main),
        "sanity": _sanity(victim, sample, settings, main[0], outcomes, attacked.records, untouched, cache),
        "corruptions": describe_corruptions(settings.seed) if corrupted else None,
        "distances": [_describe_cw()] if distances else [],
        "surface": cache.value(
            "surface", lambda: loss_surface(victim.network, sample, threat=main[0], seed=settings.seed)
        ),
        "settings": settings.model_dump(),
    }
    return Evidence(outcomes, attacked.images, description)


def on_device(victim: Victim, drawn: Drawn, device: torch.device) -> tuple[Victim, Sample]:
    """The networks in eval mode, in the layout that pays off, and the images as the attacks take them, on the device."""
    height, width, channels = drawn.images.shape[1:]
    layout = torch.channels_last if pays_off(device, (channels, height, width)) else torch.contiguous_format

    def ready(network: nn.Module) -> nn.Module:
        return in_layout(network.to(device), layout).eval()

    companions = {name: ready(network) for name, network in victim.companions.items()}
    victim = replace(victim, network=ready(victim.network), companions=companions)
    clean = to_unit(_channels_first(drawn.images)).to(device)
    return victim, Sample(clean, torch.from_numpy(drawn.labels).to(device), torch.from_numpy(drawn.index))


@dataclass(frozen=True)
class Attacked:
    """What attacks leave of a sample: the reference columns, images by name (uint8 NHWC), each attack's record."""

    columns: dict[str, Any]
    images: dict[str, NDArray[np.uint8]]
    records: list[dict[str, Any]]


def attack_sample(
    victim: Victim,
    sample: Sample,
    drawn: Drawn,
    settings: AttackSettings,
    *,
    wanted: Threat | None,
    say: Callable[[str], None],
    cache: Cache,
    processes: int = 1,
) -> Attacked:
    """Every attack of the tier on a sample, and nothing beside; `victim` and `sample` are on_device()'s of `drawn`."""
    table = ReferenceColumns(victim.network, drawn.labels, settings.batch_size)
    table.columns |= {"index": drawn.index, "label": drawn.labels, "image_sha256": image_digests(drawn.images)}
    table.judge("clean", sample.images)
    if processes > 1 and cache.folder is not None:
        ingredients: dict[str, Any] = {"victim": victim, "sample": sample, "settings": settings, "wanted": wanted}
        with worker_processes(processes - 1, all_tasks, ingredients, cache):
            run_tasks(all_tasks(**ingredients, say=say), cache, say)
    clean, images, records = _channels_first(drawn.images), {"clean": drawn.images}, []
    for finding in _findings(victim, sample, settings, wanted, say, cache):
        key = f"{finding.threat.name}/{finding.name}"
        table.judge(key, finding.images)
        images[key] = _on_grid(victim.network, finding, clean, drawn.labels, settings.batch_size)
        records.append(finding.describe())
    return Attacked(table.columns, images, records)


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def swept(settings: AttackSettings, headline: Threat) -> list[Threat]:
    """The balls that only the curve of accuracy against eps has: multiples of the headline's radius."""
    main = attacked_threats(settings)
    if settings.tier == "quick":
        return []
    return [threat for threat in (headline.scaled(factor) for factor in settings.sweep) if threat not in main]


def unions(threats: list[Threat]) -> list[dict[str, Any]]:
    """The union over norms, of each norm the threat that comes first; none where there is one norm.

    `threats` as main_threats() orders them: the headline's, and of the other norms the smallest.
    """
    first: dict[str, Threat] = {}
    for threat in threats:
        first.setdefault(threat.norm, threat)
    names = [threat.name for threat in sorted(first.values(), key=_order)]
    return [{"name": "union", "threats": names}] if len(first) > 1 else []


def _sanity(
    victim: Victim,
    sample: Sample,
    settings: AttackSettings,
    threat: Threat,
    outcomes: Outcomes,
    attacks: list[dict[str, Any]],
    untouched: str,
    cache: Cache,
) -> list[dict[str, Any]]:
    """The checks at the headline's threat; AutoAttack's warnings count at every one."""
    names = [attack["name"] for attack in attacks if attack["threat"] == threat.name]
    right = {name: ~outcomes[f"reference/{threat.name}/{name}/broken"] for name in names}
    flags = [f"{attack['threat']}: {flag}" for attack in attacks for flag in attack["flags"]]
    measured = Measured(outcomes.clean_right("reference"), right, flags, untouched)
    return sanity_checks(
        victim,
        sample,
        threat,
        measured,
        seed=settings.seed,
        tier=settings.tier,
        keep=lambda key, compute: cache.value(f"sanity/{key}", compute),
    )


def _describe_cw() -> dict[str, Any]:
    return {"name": "cw", "norm": "l2", "harness": own_harness("attacks"), "settings": CW_SETTINGS}


def _order(threat: Threat) -> tuple[int, float]:
    return ("linf", "l2", "l1").index(threat.norm), threat.size


def _plan(
    victim: Victim, sample: Sample, settings: AttackSettings, wanted: Threat | None, say: Callable[[str], None]
) -> list[tuple[Threat, list[Job]]]:
    """What is run in each ball."""
    side, headline = min(sample.images.shape[2:]), main_threats(settings, wanted)[0]
    return [
        *((threat, jobs(victim, threat, settings, side, say)) for threat in attacked_threats(settings)),
        *((threat, sweep_jobs(victim, threat, settings, side)) for threat in swept(settings, headline)),
    ]


def all_tasks(
    victim: Victim,
    sample: Sample,
    settings: AttackSettings,
    wanted: Threat | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[AttackTask]:
    """Every job on every batch in every ball."""
    return [
        task
        for threat, work in _plan(victim, sample, settings, wanted, say)
        for job in work
        for task in tasks(sample, threat, job, settings.batch_size)
    ]


def _findings(
    victim: Victim,
    sample: Sample,
    settings: AttackSettings,
    wanted: Threat | None,
    say: Callable[[str], None],
    cache: Cache,
) -> Iterator[AttackFinding]:
    for threat, work in _plan(victim, sample, settings, wanted, say):
        yield from run_suite(sample, work, threat=threat, batch_size=settings.batch_size, say=say, cache=cache)


def _on_grid(
    network: nn.Module, finding: AttackFinding, clean: Tensor, labels: NDArray[np.int64], batch_size: int
) -> NDArray[np.uint8]:
    """The images that a client can send: on the 8-bit grid, still adversarial wherever a search finds how."""
    answers = torch.from_numpy(labels)
    parts = [
        search_grid(
            network, finding.images[rows], clean[rows].to(finding.images.device), answers[rows].to(finding.images.device),
            finding.threat,
        ).images.cpu()
        for rows in torch.arange(len(labels)).split(batch_size)
    ]  # fmt: skip
    return torch.cat(parts).permute(0, 2, 3, 1).contiguous().numpy()


def _distances(
    victim: Victim, sample: Sample, settings: AttackSettings, cache: Cache
) -> dict[str, NDArray[np.float32]]:
    """The l2 distance to the closest image that C&W found, infinite where it found none."""
    found = [
        cache.parts(f"distance/cw/{number:04}", lambda: {"cw": minimum_norm(victim, batch)})["cw"].notes["distances"]  # noqa: B023  # called at once
        for number, batch in enumerate(sample.batches(settings.batch_size))
    ]
    distances = [np.inf if distance is None else distance for part in found for distance in part]
    return {"reference/distance/cw": np.array(distances, dtype=np.float32)}


def _corruptions(
    victim: Victim, drawn: Drawn, settings: AttackSettings, say: Callable[[str], None], cache: Cache
) -> dict[str, NDArray[Any]]:
    assert victim.model is not None
    classifier = OnnxClassifier(victim.model, threads=torch.get_num_threads(), device="cpu")
    return corruption_columns(classifier, drawn.images, drawn.index, seed=settings.seed, say=say, cache=cache)
