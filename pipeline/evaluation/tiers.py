"""The attacks of each tier: what is run against a victim in one ball, and how the attestation records it.

Every job gives adversarial images by attack name. Further attacks are entry points of the group `hallmark.attacks`,
each a function `attack(model, images, labels, *, threat, seed, index) -> images`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch

from bundle.errors import HallmarkError
from bundle.table.threats import Threat, answering
from pipeline.attacks import autoattack
from pipeline.attacks.adaptive import adaptive, transfer
from pipeline.attacks.cw import cw_l2
from pipeline.attacks.pgd import fgsm, margin_pgd, noise, pgd, trajectory
from pipeline.attacks.square_onnx import settings as square_settings
from pipeline.attacks.square_onnx import square_onnx
from pipeline.attacks.threat import project
from pipeline.evaluation.victim import Sample, Victim
from pipeline.networks.folding import fold_while_crafting, folded
from pipeline.params import AttackSettings
from pipeline.run.cache import CachePart, Part
from pipeline.run.devices import device_of, pays_off
from pipeline.run.environment import own_harness, package_harness, plugin_harness

PGD_STEPS = (10, 20, 50)
MARGIN_STEPS = 50
RELATIVE_STEP = 0.25
NOISE_DRAWS = 10
#: Of Square against the ONNX file, by tier.
QUERIES = {"standard": 1000, "thorough": 5000}
THOROUGH_STEPS, THOROUGH_RESTARTS = 100, 5
GROUP = "hallmark.attacks"
KEEPS = "smallest margin"

Say = Callable[[str], None]
Run = Callable[[Sample, CachePart], dict[str, Part]]


@dataclass(frozen=True)
class Job:
    """One computation: `run` gives the images of the attacks in `settings`, which says how each is recorded."""

    name: str
    run: Run
    settings: dict[str, dict[str, Any]]
    harness: dict[str, Any] = field(default_factory=lambda: own_harness("attacks"))


def jobs(victim: Victim, threat: Threat, settings: AttackSettings, side: int, say: Say) -> list[Job]:
    """Everything that a tier runs in one ball, the cheap attacks first; `side` is the images' shorter one in pixels."""
    found = [_noise(victim, threat, settings)]
    if settings.tier != "quick":
        found.append(_fgsm(victim, threat))
    found += [_pgd(victim, threat, settings), _margin(victim, threat, settings)]
    if settings.tier == "thorough":
        found.append(_long_pgd(victim, threat, settings))
        if threat.norm == "l2":
            found.append(_cw(victim, threat))
    if settings.tier != "quick":
        found += companion_jobs(victim, threat, settings)
        if victim.model is not None:
            found.append(_square_onnx(victim.model, threat, settings))
        found += list(_autoattacks(victim, threat, settings, side, say))
    found += [_plugin(victim, threat, settings, plugin) for plugin in _plugins(settings.plugins)]
    return _against_folded(victim, side, found)


def _against_folded(victim: Victim, side: int, found: list[Job]) -> list[Job]:
    """The same jobs, with BatchNorms folded while images are crafted, where that pays off; not when they are judged."""
    networks = (victim.network, *victim.companions.values())
    if not pays_off(device_of(victim.network), (1, side, side)):
        return found
    fold_while_crafting(networks)

    def folding(job: Job) -> Job:
        def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
            with folded(*networks):
                return job.run(sample, keep)

        return replace(job, run=run)

    return [folding(job) for job in found]


def companion_jobs(victim: Victim, threat: Threat, settings: AttackSettings) -> list[Job]:
    """Images carried over from the companions, and attacks on all co-trained networks together."""
    found = [_transfer(victim, threat, settings, name) for name in victim.companions]
    return [*found, _adaptive(victim, threat, settings)] if victim.cotrained else found


def core_jobs(victim: Victim, threat: Threat, settings: AttackSettings, side: int, say: Say) -> list[Job]:
    """PGD, margin and, unless the tier is quick, AutoAttack standard: what experiments compare methods by."""
    core = [_pgd(victim, threat, settings), _margin(victim, threat, settings)]
    return core if settings.tier == "quick" else [*core, autoattack_job(victim, threat, settings, side, say)]


def sweep_jobs(victim: Victim, threat: Threat, settings: AttackSettings, side: int) -> list[Job]:
    """What is run at the radii that only the curve of accuracy against eps has."""
    return _against_folded(victim, side, [_margin(victim, threat, settings)])


def _search(threat: Threat, settings: AttackSettings, **changes: Any) -> dict[str, Any]:
    """What PGD's searches are called with."""
    search = {"threat": threat, "seed": settings.seed, "restarts": settings.restarts, "relative_step": RELATIVE_STEP}
    return search | changes


def searched(settings: AttackSettings, loss: str, steps: int, restarts: int | None = None) -> dict[str, Any]:
    """How a search is recorded."""
    return {
        "loss": loss,
        "steps": steps,
        "restarts": restarts or settings.restarts,
        "relativeStep": RELATIVE_STEP,
        "seed": settings.seed,
        "keeps": KEEPS,
    }


def _single(
    name: str, victim: Victim, recorded: dict[str, Any], attack: Callable[..., torch.Tensor], **options: Any
) -> Job:
    """A job of one attack on the network."""

    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        return {name: Part(attack(victim.network, sample.images, sample.labels, index=sample.index, **options))}

    return Job(name, run, {name: recorded})


def _noise(victim: Victim, threat: Threat, settings: AttackSettings) -> Job:
    recorded = {"draws": NOISE_DRAWS, "seed": settings.seed, "keeps": KEEPS}
    return _single("noise", victim, recorded, noise, threat=threat, seed=settings.seed, draws=NOISE_DRAWS)


def _fgsm(victim: Victim, threat: Threat) -> Job:
    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        return {"fgsm": Part(fgsm(victim.network, sample.images, sample.labels, threat=threat))}

    return Job("fgsm", run, {"fgsm": {"loss": "cross-entropy", "steps": 1}})


def _pgd(victim: Victim, threat: Threat, settings: AttackSettings) -> Job:
    """PGD-10, -20 and -50, prefixes of one trajectory."""

    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        search = _search(threat, settings, steps=PGD_STEPS, index=sample.index)
        path = trajectory(victim.network, sample.images, sample.labels, **search)
        return {f"pgd-{steps}": Part(images) for steps, images in path}

    recorded = {f"pgd-{steps}": searched(settings, "cross-entropy", steps) for steps in PGD_STEPS}
    return Job("pgd", run, recorded)


def _margin(victim: Victim, threat: Threat, settings: AttackSettings) -> Job:
    recorded = searched(settings, "margin", MARGIN_STEPS)
    return _single("margin", victim, recorded, margin_pgd, **_search(threat, settings, steps=MARGIN_STEPS))


def _long_pgd(victim: Victim, threat: Threat, settings: AttackSettings) -> Job:
    recorded = searched(settings, "cross-entropy", THOROUGH_STEPS, THOROUGH_RESTARTS)
    search = _search(threat, settings, steps=THOROUGH_STEPS, restarts=THOROUGH_RESTARTS)
    return _single(f"pgd-{THOROUGH_STEPS}", victim, recorded, pgd, **search)


def _cw(victim: Victim, threat: Threat) -> Job:
    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        found = keep("minimum", lambda: minimum_norm(victim, sample))
        return {"cw": Part(project(found.images.to(sample.images), sample.images, threat))}

    return Job("cw", run, {"cw": CW_SETTINGS})


CW_SETTINGS: dict[str, Any] = {"steps": 100, "binary_search_steps": 5, "initial_constant": 1.0, "lr": 0.01}


def minimum_norm(victim: Victim, sample: Sample) -> Part:
    """C&W's images and their l2 distances, None where nothing was found."""
    found = cw_l2(victim.network, sample.images, sample.labels, **CW_SETTINGS)
    distances = [None if distance == float("inf") else distance for distance in found.distances.tolist()]
    return Part(found.images, {"distances": distances})


def _transfer(victim: Victim, threat: Threat, settings: AttackSettings, companion: str) -> Job:
    recorded = {**searched(settings, "margin", MARGIN_STEPS, 1), "source": companion}
    source = victim.companions[companion]
    options = {"source": source, "threat": threat, "seed": settings.seed, "steps": MARGIN_STEPS}
    return _single(f"transfer-{companion}", victim, recorded, transfer, **options)


def _adaptive(victim: Victim, threat: Threat, settings: AttackSettings) -> Job:
    loss = "divergence from the companions; margins and cross-entropies of all networks together"
    options = {"companions": victim.cotrained, "threat": threat, "seed": settings.seed, "steps": MARGIN_STEPS}
    return _single("adaptive", victim, searched(settings, loss, MARGIN_STEPS, 1), adaptive, **options)


def _square_onnx(model: bytes, threat: Threat, settings: AttackSettings) -> Job:
    queries = QUERIES[settings.tier]

    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        images = (sample.images.cpu() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        found = square_onnx(
            model,
            images,
            sample.labels.cpu().numpy(),
            threat=threat,
            seed=settings.seed,
            index=sample.index.cpu().numpy(),
            queries=queries,
            threads=torch.get_num_threads(),
        )
        return {"square-onnx": Part(torch.from_numpy(found.images).permute(0, 3, 1, 2) / 255)}

    return Job("square-onnx", run, {"square-onnx": square_settings(queries, settings.seed)})


def _autoattacks(victim: Victim, threat: Threat, settings: AttackSettings, side: int, say: Say) -> Iterator[Job]:
    yield autoattack_job(victim, threat, settings, side, say)
    if settings.tier == "thorough":
        yield autoattack_job(victim, threat, settings, side, say, version="plus")
        for further in range(1, settings.seeds):
            yield autoattack_job(victim, threat, settings, side, say, further=further)


def autoattack_job(
    victim: Victim,
    threat: Threat,
    settings: AttackSettings,
    side: int,
    say: Say,
    version: autoattack.Version = "standard",
    further: int = 0,
) -> Job:
    """AutoAttack of a version; `further` is added to the seed."""
    name, seed = "autoattack", settings.seed + further
    name += "" if version == "standard" else f"-{version}"
    name += f"-seed-{seed}" if further else ""
    recorded: dict[str, Any] = {"seed": seed, "batchSize": settings.batch_size}

    def run(sample: Sample, keep: CachePart) -> dict[str, Part]:
        found = autoattack.autoattack(
            victim.network,
            sample.images,
            sample.labels,
            threat=threat,
            seed=seed,
            classes=victim.classes,
            batch_size=settings.batch_size,
            version=version,
            keep=keep,
            progress=lambda line: say(f"{threat.name} {name}: {line}"),
        )
        return {name: Part(found.images, {"flags": found.flags, "square_broken": found.square_broken})}

    described = autoattack.settings(victim.classes, threat.norm, side, version)
    return Job(name, run, {name: {**described, **recorded}}, package_harness("pyautoattack"))


def _plugins(names: list[str]) -> list[EntryPoint]:
    """Raises HallmarkError where an attack of that name is not installed."""
    known = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    for name in names:
        if name not in known:
            found = ", ".join(sorted(known)) or "none"
            raise HallmarkError(f"attack.plugins: {name}: is no entry point of the group {GROUP}; installed: {found}")
    return [known[name] for name in names]


def _plugin(victim: Victim, threat: Threat, settings: AttackSettings, plugin: EntryPoint) -> Job:
    attack: Callable[..., torch.Tensor] = plugin.load()

    def held(model: Any, images: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        return project(attack(model, images, labels, **options), images, threat)

    recorded = {"entryPoint": plugin.value, "seed": settings.seed}
    job = _single(plugin.name, victim, recorded, held, threat=threat, seed=settings.seed)
    return replace(job, harness=plugin_harness(plugin.dist))


def attacked_threats(settings: AttackSettings) -> list[Threat]:
    """The balls that an evaluation attacks: l∞, then l2, then l1, each with its radii in ascending order."""
    return [
        *(Threat("linf", size) for size in sorted(settings.eps_255 or [])),
        *(Threat("l2", size) for size in sorted(settings.eps_l2 or [])),
        *(Threat("l1", size) for size in sorted(settings.eps_l1 or [])),
    ]


def main_threats(settings: AttackSettings, wanted: Threat | None = None) -> list[Threat]:
    """The same balls, the headline's first: the one that answers for `wanted`, which the model should withstand."""
    attacked = attacked_threats(settings)
    first = answering(attacked, wanted)
    return [first, *(threat for threat in attacked if threat != first)]
