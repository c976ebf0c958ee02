"""evaluate(): a network under attack, image by image, in one line. It needs the training installation."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from bundle.command_line import DISTRIBUTION
from bundle.errors import HallmarkError
from bundle.numbers.intervals import clopper_pearson
from bundle.pages.notebook import html_table
from bundle.table.outcomes import Outcomes
from bundle.table.threats import Threat

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.evaluation.victim import Sample, Victim

Tier = Literal["quick", "standard", "thorough"]
TIERS: tuple[Tier, ...] = ("quick", "standard", "thorough")
#: Images on which it is checked that the network keeps the contract.
PROBES = 8


@dataclass(frozen=True)
class Proportion:
    """A share of images: `correct` of `of`, its `value` in [0, 1], and the 95 % Clopper-Pearson `interval`."""

    correct: int
    of: int

    @property
    def value(self) -> float:
        return self.correct / self.of

    @property
    def interval(self) -> tuple[float, float]:
        return clopper_pearson(self.correct, self.of)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        lower, upper = (100 * end for end in self.interval)
        return f"{100 * self.value:.1f} % [{lower:.1f}, {upper:.1f}] {self.correct}/{self.of}"


@dataclass(frozen=True)
class Measurement:
    """What attacks did to a network: float32, float adversarial images, comparable with papers (`reference`).

    `clean`; `robust`, the share of images that are right under every attack, an upper bound of the true robust accuracy;
    `attacks`, the share under each alone, by name; `flags`, what AutoAttack warns of; `outcomes`, a row an image:
    prediction, margin and confidence, clean and under each attack, and whether the attack broke it.
    """

    threat: str
    tier: Tier
    seed: int
    clean: Proportion
    robust: Proportion
    attacks: Mapping[str, Proportion]
    flags: list[str]
    outcomes: Outcomes

    def __repr__(self) -> str:
        flags = f", {len(self.flags)} flags" if self.flags else ""
        return f"Measurement({self.threat}, {self.tier}: clean {self.clean}, robust {self.robust}{flags})"

    def _repr_html_(self) -> str:
        rows = {"clean": self.clean, "robust, under every attack": self.robust, **self.attacks}
        title = f"{self.threat}, tier {self.tier}, seed {self.seed}"
        return html_table(title, {name: repr(share) for name, share in rows.items()})

    def to_pandas(self) -> Any:
        """The outcomes as a pandas.DataFrame, a row an image; raises HallmarkError where pandas is not installed."""
        return self.outcomes.to_pandas()


def evaluate(
    model: nn.Module,
    images: Tensor | NDArray[Any],
    labels: Tensor | NDArray[Any],
    eps_255: float = 8,
    tier: Tier = "quick",
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> Measurement:
    """Attacks a network in l∞ with what the tier runs (docs/evaluation.md).

    Parameters
    ----------
    model : maps float images (N, C, H, W) in [0, 1] to logits (N, K), on the device of its parameters. It is put into
        eval mode while it is attacked, and is not changed.
    images : float (N, C, H, W) in [0, 1], as RobustBench has them, or uint8 (N, H, W, C); a tensor or an array.
    labels : whole numbers (N,), 0 to K - 1.
    eps_255 : the radius in 255ths of the pixel range, above 0 and below 255.
    tier : `quick` (noise, PGD, margin), `standard` (and FGSM, AutoAttack), or `thorough`.
    seed : of the random starts, which are drawn image by image.
    batch_size : images attacked at once; AutoAttack's examples depend on it.

    Raises HallmarkError in one sentence for arguments that are none, a network that does not keep the contract, and where
    torch is not installed. Sanity checks, the 8-bit images of `served`, and evidence that others can check, are
    `make evaluate`'s.
    """
    _require_torch()
    threat = _threat(eps_255, tier, batch_size)
    training = model.training
    try:
        victim, sample = _prepared(model, images, labels)
        with _exact():
            return _attack(victim, sample, threat, tier, seed, batch_size)
    finally:
        model.train(training)


def _require_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError:
        raise HallmarkError(
            f"evaluate: needs the training installation: pip install '{DISTRIBUTION}[pipeline]'"
        ) from None


def _threat(eps_255: float, tier: str, batch_size: int) -> Threat:
    if tier not in TIERS:
        raise HallmarkError(f"tier: must be one of {', '.join(TIERS)}, got {tier!r}")
    if not 0 < eps_255 < 255:
        raise HallmarkError(f"eps_255: must be above 0 and below 255, got {eps_255}")
    if batch_size < 1:
        raise HallmarkError(f"batch_size: must be at least 1, got {batch_size}")
    return Threat("linf", float(eps_255))


def _prepared(model: nn.Module, images: Any, labels: Any) -> tuple[Victim, Sample]:
    """The network in eval mode, and the images on its device."""
    import torch

    from pipeline.evaluation.victim import Sample, Victim
    from pipeline.external.contract import check_network

    device = next((item.device for item in model.parameters()), torch.device("cpu"))
    batch, answers = _images(images).to(device), _labels(labels).to(device)
    if len(batch) != len(answers) or not len(batch):
        raise HallmarkError(
            f"images and labels: must be as many, and at least one, got {len(batch)} and {len(answers)}"
        )
    model.eval()
    with torch.no_grad():
        logits = model(batch[:1])
    classes = logits.shape[-1] if getattr(logits, "ndim", 0) == 2 else 0
    probes = (batch[:PROBES] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    check_network(model, probes, classes)
    if answers.min() < 0 or answers.max() >= classes:
        raise HallmarkError(f"labels: must be 0 to {classes - 1}, got {int(answers.min())} to {int(answers.max())}")
    return Victim(model, classes), Sample(batch, answers, torch.arange(len(batch)))


def _images(images: Any) -> Tensor:
    """Float (N, C, H, W) in [0, 1]."""
    import torch

    given = torch.as_tensor(images)
    if given.ndim != 4:
        raise HallmarkError(f"images: must have four axes, got shape {tuple(given.shape)}")
    if given.dtype == torch.uint8:
        given = given.permute(0, 3, 1, 2).float() / 255
    if not given.is_floating_point() or not bool(((given >= 0) & (given <= 1)).all()):
        raise HallmarkError(
            "images: must be uint8 (N, H, W, C), or float (N, C, H, W) in [0, 1], without normalisation"
        )
    if given.shape[1] not in (1, 3):
        raise HallmarkError(f"images: must have 1 or 3 channels, got shape {tuple(given.shape)} as (N, C, H, W)")
    return given.float().contiguous()


def _labels(labels: Any) -> Tensor:
    import torch

    given = torch.as_tensor(labels)
    if given.ndim != 1 or given.is_floating_point():
        raise HallmarkError(f"labels: must be whole numbers (N,), got {given.dtype} of shape {tuple(given.shape)}")
    return given.long()


@contextmanager
def _exact() -> Generator[None]:
    """float32 that is float32: TF32 would move verdicts."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def _attack(victim: Victim, sample: Sample, threat: Threat, tier: Tier, seed: int, batch_size: int) -> Measurement:
    from pipeline.evaluation.columns import ReferenceColumns
    from pipeline.evaluation.running import run_suite
    from pipeline.evaluation.tiers import jobs
    from pipeline.params import AttackSettings
    from pipeline.run.cache import Cache

    settings = AttackSettings(tier=tier, eps_255=[threat.size], batch_size=batch_size, seed=seed)
    labels = sample.labels.cpu().numpy()
    table = ReferenceColumns(victim.network, labels, batch_size)
    table.columns |= {"index": np.arange(len(labels)), "label": labels}
    table.judge("clean", sample.images)
    suite = jobs(victim, threat, settings, min(sample.images.shape[2:]), _silent)
    flags: dict[str, list[str]] = {}
    for found in run_suite(sample, suite, threat=threat, batch_size=batch_size, say=_silent, cache=Cache()):
        table.judge(f"{threat.name}/{found.name}", found.images)
        flags[found.name] = cast("list[str]", found.describe()["flags"])
    return _summed(Outcomes(table.columns), threat.name, tier, seed, flags)


def _silent(line: str) -> None:
    """Says nothing."""


def _summed(outcomes: Outcomes, threat: str, tier: Tier, seed: int, flags: Mapping[str, list[str]]) -> Measurement:
    def share(right: NDArray[np.bool_]) -> Proportion:
        return Proportion(int(right.sum()), len(right))

    return Measurement(
        threat,
        tier,
        seed,
        clean=share(outcomes.clean_right("reference")),
        robust=share(outcomes.robust("reference", threat, flags)),
        attacks={name: share(outcomes.robust("reference", threat, [name])) for name in flags},
        flags=[f"{name}: {flag}" for name, found in flags.items() for flag in found],
        outcomes=outcomes,
    )
