"""AutoAttack (Croce and Hein 2020, arXiv 2003.01690; for l1 2021, arXiv 2103.01208) through pyautoattack.

Three versions: standard; plus, with more attacks and restarts; rand, for networks whose answers are random. pyautoattack
needs ten classes. Here the targets are min(9, K − 1), for l1's targeted APGD of the standard version min(5, K − 1);
below four classes the targeted difference-of-logits-ratio loss does not exist, below three the untargeted one, so that
a named reduced set runs. Square's pattern in l2 and l1 needs images of 5 pixels a side.

The attacks of a version run one after another, each on the survivors of those before, and each is handed over to be
cached: a killed evaluation goes on after the last finished one, and the verdicts are those of one whole run.

pyautoattack without its side effects: what its attacks change beside their images is put back.

It reseeds torch's generators, switches the tracer off, counts calls in a global table that is never emptied (one dynamic
defence and every later model is called one), leaves gradients in the network's weights, and writes its warnings to a
logger.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.table.threats import Norm
from pipeline.attacks.pgd import Model
from pipeline.attacks.threat import Threat, project
from pipeline.run.cache import CachePart, Part, uncached

Version = Literal["standard", "plus", "rand"]
VERSIONS: tuple[Version, ...] = get_args(Version)
ATTACKS: dict[Version, list[str]] = {
    "standard": ["apgd-ce", "apgd-t", "fab-t", "square"],
    "plus": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
    "rand": ["apgd-ce", "apgd-dlr"],
}
#: The fewest classes that an attack's loss is defined for.
FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
#: Square's warning starts at 0.2 points, but not below this many images: with few images that is less than one image.
SQUARE_SHARE, SQUARE_IMAGES = 0.002, 2
#: The smallest side of an image that Square's starting pattern fits in, for l2 and l1.
SQUARE_SIDE = 5
NORMS: dict[Norm, Literal["Linf", "L2", "L1"]] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
STEPS, QUERIES = 100, 5000
#: What the standard version does otherwise for l1: APGD comes from balls of 3, 2 and 1 eps, 30, 30 and 40 steps each.
L1_SETTINGS = {"apgdRestarts": 5, "apgdRadii": [3, 2, 1]}
PLUS_SETTINGS = {"apgdRestarts": 5, "fabRestarts": 5}
#: Gradients that an update of the version rand averages.
RAND_SETTINGS = {"gradientSamples": 20}


@dataclass(frozen=True)
class AutoAttackResult:
    """Adversarial images (N, C, H, W), and the warnings that AutoAttack raised about the model or itself.

    `square_broken` counts the images that only Square broke. It is no flag yet, so that an evaluation in parts can add
    it up: see square_flags. In the version plus gradient attacks come after Square, so that it shows nothing: 0.
    """

    images: Tensor
    flags: list[str]
    square_broken: int


def settings(classes: int, norm: Norm = "linf", side: int = 32, version: Version = "standard") -> dict[str, Any]:
    """What is run for this number of classes and norm, as the attestation records it; `side` is the image's shorter.

    Raises HallmarkError for a version that there is not.
    """
    if version not in VERSIONS:
        raise HallmarkError(f"AutoAttack has no version {version}; there are {', '.join(VERSIONS)}")
    small = norm != "linf" and side < SQUARE_SIDE
    attacks = [
        name for name in ATTACKS[version] if classes >= FEWEST_CLASSES.get(name, 2) and not (name == "square" and small)
    ]
    return {
        "version": _version_name(classes, version, attacks, small),
        "attacks": attacks,
        **({} if version == "rand" else {"targets": min(9, classes - 1), "queries": QUERIES}),
        "steps": STEPS,
        **_further(classes, norm, version),
    }


def _version_name(classes: int, version: Version, attacks: list[str], small: bool) -> str:
    missing = [name for name in ATTACKS[version] if name not in attacks]
    fewest = min((FEWEST_CLASSES[name] for name in missing if name in FEWEST_CLASSES), default=None)
    reasons = [
        *([f"fewer than {fewest} classes"] if fewest else []),
        *([f"images under {SQUARE_SIDE} pixels"] if small and "square" in missing else []),
    ]
    if reasons:
        return f"{'' if version == 'standard' else f'{version} '}reduced: {', '.join(reasons)}"
    return version if classes >= 10 or version == "rand" else f"{version}, targets adapted"


def _further(classes: int, norm: Norm, version: Version) -> dict[str, Any]:
    if version == "standard":
        return L1_SETTINGS | {"apgdTargets": min(5, classes - 1)} if norm == "l1" else {}
    return dict(PLUS_SETTINGS if version == "plus" else RAND_SETTINGS)


def square_flags(broken: int, images: int) -> list[str]:
    """AutoAttack's warning where Square broke more than 0.2 points, and more than 2, of the images after all others."""
    if broken <= max(SQUARE_SHARE * images, SQUARE_IMAGES):
        return []
    return [
        f"Square Attack has decreased the robust accuracy of {broken / images:.2%}. This might indicate that the "
        "robustness evaluation using AutoAttack is unreliable. Consider running Square Attack with more iterations and "
        "restarts or an adaptive attack. See flags_doc.md for details."
    ]


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    classes: int,
    batch_size: int = 250,
    version: Version = "standard",
    keep: CachePart = uncached,
    progress: Callable[[str], None] | None = None,
) -> AutoAttackResult:
    """AutoAttack, each attack on the survivors of the one before.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode; deterministic but for the version rand.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    seed, batch_size : the result depends on both; same values, same images as pyautoattack by itself.
    version : standard, plus or rand.
    keep : is handed every attack's part under its name: the images that it broke, and which rows those are.
    progress : is told AutoAttack's own progress lines.

    Returns images inside the ball and [0, 1] (the clean image where nothing was found), flags, and what Square added.
    A network whose answers are random draws from a generator that every attack starts anew from the seed. Raises
    HallmarkError for a version that there is not.
    """
    attacks = settings(classes, threat.norm, min(images.shape[2:]), version)["attacks"]
    adversarial, flags, square_broken = images.clone(), [], 0
    survivors = torch.arange(len(labels), device=images.device)
    for name in attacks:
        if not len(survivors):
            break
        rows = survivors

        def compute(name: str = name, rows: Tensor = rows) -> Part:
            attack = _prepared(model, threat, seed, classes, version, images.device)
            attack.attacks_to_run = [name]
            # The checks of the model look at the first batch of all images, which the first attack alone is given.
            with contained(model), log_lines(progress, checks=name == attacks[0]) as lines:
                torch.manual_seed(seed)
                found, answers = attack.run_standard_evaluation(images[rows], labels[rows], batch_size=batch_size)
            broken = answers != labels[rows]
            inside = project(found[broken], images[rows[broken]], threat)
            return Part(inside, {"broken": broken.nonzero().flatten().tolist(), "flags": lines.flags})

        part = keep(name, compute)
        broken = torch.tensor(part.notes["broken"], dtype=torch.long, device=images.device)
        adversarial[rows[broken]] = part.images.to(adversarial)
        flags += [flag for flag in part.notes["flags"] if flag not in flags]
        square_broken += len(broken) if name == "square" and name == attacks[-1] else 0
        survives = torch.ones_like(rows, dtype=torch.bool)
        survives[broken] = False
        survivors = rows[survives]
    return AutoAttackResult(adversarial, flags, square_broken)


def autoattack_rand(
    model: nn.Module, images: Tensor, labels: Tensor, *, threat: Threat, seed: int, index: Tensor
) -> Tensor:
    """The version rand, for networks whose answers are random, as an attack by itself; parameters and images as above.

    `index` decides nothing: pyautoattack draws for the batch.
    """
    classes, size = class_count(model, images), len(labels)
    return autoattack(
        model, images, labels, threat=threat, seed=seed, classes=classes, batch_size=size, version="rand"
    ).images


@torch.no_grad()
def class_count(model: Model, images: Tensor) -> int:
    """The number of classes that a network answers with, from one image."""
    return model(images[:1]).shape[1]


def _prepared(model: nn.Module, threat: Threat, seed: int, classes: int, version: Version, device: torch.device) -> Any:
    """pyautoattack's own object of this version, with as many targets as there are other classes."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, norm=NORMS[threat.norm], eps=threat.eps, seed=seed, version=version, device=device)
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    return attack


@contextmanager
def contained(model: object) -> Generator[None]:
    """Puts torch's generators, the tracer, pyautoattack's table of calls and the network's gradients back as they were.

    Inside, the network's weights ask for no gradient: the attacks need none, and FAB would compute them for nothing.
    """
    from pyautoattack import checks

    tracer, calls = sys.gettrace(), dict(checks.funcs)
    checks.funcs.update(dict.fromkeys(calls, 0))
    weights = [weight for weight in _weights(model) if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        with torch.random.fork_rng(_devices()):
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        checks.funcs.update(calls)
        sys.settrace(tracer)


def _weights(model: object) -> list[nn.Parameter]:
    return list(model.parameters()) if isinstance(model, nn.Module) else []


def _devices() -> list[int]:
    """The devices whose generators may change: pyautoattack seeds CUDA's, even where it works on the CPU."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


class Lines(logging.Handler):
    """Keeps what AutoAttack's log says about the model, and passes its progress on.

    `checks`: whether what its checks of the model say counts. They come before the first attack starts.
    """

    def __init__(self, progress: Callable[[str], None] | None, checks: bool = True) -> None:
        super().__init__()
        self.progress = progress
        self.listening = checks
        self.flags: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if record.levelno < logging.WARNING:
            self.listening = self.listening or line.startswith("running ")
            if self.progress is not None:
                self.progress(line)
        # Square's warning is a share of all images, which square_flags judges.
        elif self.listening and line not in self.flags and not line.startswith("Square Attack has decreased"):
            self.flags.append(line)


@contextmanager
def log_lines(progress: Callable[[str], None] | None = None, checks: bool = True) -> Generator[Lines]:
    """Listens to AutoAttack's logger, and to nobody else's."""
    logger = logging.getLogger("auto-attack")
    lines, before = Lines(progress, checks), (logger.level, logger.propagate)
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before[0])
        logger.propagate = before[1]
