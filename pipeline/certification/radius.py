"""For each image the largest l∞ radius that is proved: the column proved/linf/eps_255.

What is proved: for one eps per image, a lower bound of the label's logit minus every other one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from pipeline.certification import intervals
from pipeline.certification import relaxed as forms
from pipeline.certification.intervals import ARITHMETIC, Bounds, Interval, propagate
from pipeline.certification.layers import Affine
from pipeline.certification.program import Program, UnprovableError, read
from pipeline.certification.relaxed import Backward
from pipeline.run.cache import Cache, Part
from pipeline.run.environment import own_harness

#: Forms hold one coefficient per pixel for every value, which larger images cannot afford.
PIXELS_FOR_FORMS = 256

#: The largest difference between the steps that were read, in float64, and the network; as a fraction of the largest logit.
AGREEMENT = 1e-3

#: How the record names the techniques.
NAMES: dict[Technique, str] = {
    "ibp": "IBP",
    "crown-ibp": "CROWN, intermediate bounds by IBP",
    "crown-forward": "CROWN, intermediate bounds by forward linear propagation",
    "crown": "CROWN",
}


@dataclass(frozen=True)
class Search:
    """How radii are searched: whole multiples of `tolerance_255` up to `limit_255`, both in 255ths of the pixel range.

    `technique`: see pipeline.certification.radius. Images are taken `batch_size` at a time; where nothing is proved
    for any of the first batch, the search ends, and the other radii are 0, which is a lower bound too.
    """

    technique: Technique
    limit_255: float = 64.0
    tolerance_255: float = 0.25
    first_255: float = 1.0
    batch_size: int = 20

    @property
    def steps(self) -> int:
        """The limit in steps of the tolerance."""
        return math.floor(self.limit_255 / self.tolerance_255 + 1e-9)


def default_technique(image: tuple[int, ...], *, thorough: bool = False) -> Technique:
    """Affine forms for small images (H, W, C), CROWN where one is `thorough`; for others intervals.

    Intervals are what is left within minutes there.
    """
    if math.prod(image) > PIXELS_FOR_FORMS:
        return "ibp"
    return "crown" if thorough else "crown-forward"


def describe(search: Search, radii_255: Sequence[float]) -> dict[str, Any]:
    """The search as an item of the predicate's `proofs`; `radii_255` are those at which accuracy is claimed."""
    return {
        "name": "served-linf",
        "norm": "linf",
        "technique": NAMES[search.technique],
        "eps_255": sorted(radii_255),
        "tolerance_255": search.tolerance_255,
        "arithmetic": ARITHMETIC,
        "harness": own_harness("proofs"),
        "settings": {"limit_255": search.limit_255, "first_255": search.first_255, "batch_size": search.batch_size},
    }


def proved_radii(
    network: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    search: Search,
    *,
    cache: Cache | None = None,
) -> NDArray[np.float64]:
    """Radii (N,), float64, in 255ths: no image of the ball, and so none that a client can send, is misclassified.

    Parameters: `network` in eval mode on the CPU; images uint8 (N, H, W, C) and labels (N,); finished batches are cached
    in `cache`, whose folder must name the search too. A radius is 0 where the image itself is misclassified or nothing
    is proved. A proved radius was itself evaluated; the next step above it was evaluated and not proved, or is above
    the limit. Raises UnprovableError, one sentence, for a network with a layer through which no bounds are known.
    """
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float64) / 255
    program = read(network, tuple(unit.shape[1:]))
    if any(value.device.type != "cpu" for value in network.parameters()):
        raise UnprovableError(
            "nothing proved: bounds are computed on the CPU, whose sums they allow for; move the network"
        )
    _require_agreement(network, program, unit[: search.batch_size])
    target, found = torch.from_numpy(labels), torch.zeros(len(labels), dtype=torch.float64)
    parts = cache or Cache()
    with _progress(len(labels)) as advance:
        for start in range(0, len(labels), search.batch_size):
            rows = slice(start, start + search.batch_size)

            def compute(rows: slice = rows) -> dict[str, Part]:
                radii = largest_radii(program, unit[rows], target[rows], search)
                return {"radii": Part(radii)}

            found[rows] = parts.parts(f"proofs/{start}", compute)["radii"].images
            advance(len(target[rows]))
            if start == 0 and not found[rows].any():
                break
    return found.numpy()


@torch.no_grad()
def _require_agreement(network: nn.Module, program: Program, images: Tensor) -> None:
    """Raises UnprovableError where the steps that were read do not give the network's own logits."""
    points = propagate(program, Interval(images, images), rounded=False).nodes[-1].centre
    logits = network(images.to(next(network.parameters()).dtype)).double()
    if ((points - logits).abs() > AGREEMENT * logits.abs().amax()).any():  # never of NaN, which proves nothing anyway
        raise UnprovableError(
            "nothing proved: the network's steps as they were read give other logits than the network"
        )


def largest_radii(program: Program, images: Tensor, labels: Tensor, search: Search) -> Tensor:
    """The largest proved radius of each image in 255ths, (N,), one search for all; images as margins() has them.

    The radius doubles from `first_255` until it is not proved; then the bracket shrinks, by interpolation between the
    margins and by halving in turns, until the two ends are one step apart.
    """
    size = len(images)
    low, high = torch.zeros(size, dtype=torch.int64), torch.full((size,), search.steps + 1)
    above, below = torch.full((size,), torch.nan), torch.full((size,), torch.nan)  # margins at both ends
    guess = torch.full((size,), max(1, round(search.first_255 / search.tolerance_255))).clamp_max(search.steps)
    turn = 0
    while (open_ := high - low > 1).any():
        rows = open_.nonzero().squeeze(1)
        eps = guess[rows].to(torch.float64) * search.tolerance_255 / 255
        margin = (
            margins(program, images[rows], labels[rows], eps, technique=search.technique).amin(dim=1).to(above.dtype)
        )
        proved = margin > 0  # False for NaN: bounds that overflow prove nothing
        low[rows], high[rows] = (
            torch.where(proved, guess[rows], low[rows]),
            torch.where(proved, high[rows], guess[rows]),
        )
        above[rows], below[rows] = torch.where(proved, margin, above[rows]), torch.where(proved, below[rows], margin)
        guess = _next(low, high, above, below, search.steps, halve=turn % 2 == 1)
        turn += 1
    return low.to(torch.float64) * search.tolerance_255


def _next(low: Tensor, high: Tensor, above: Tensor, below: Tensor, steps: int, *, halve: bool) -> Tensor:
    """The next radius to try, strictly between the ends where there is room, in steps."""
    doubled = (2 * low).clamp_min(1).clamp_max(steps)
    middle = (low + high) // 2
    # Margins fall faster and faster below zero: they count at most ten times what is left above.
    fall = torch.minimum(-below, 10 * above)
    fraction = torch.where(torch.isfinite(fall), above / (above + fall), 0.5)
    between = middle if halve else (low + fraction * (high - low)).nan_to_num(0).to(torch.int64)
    guess = torch.where(high > steps, doubled, torch.where(torch.isfinite(above), between, middle))
    return torch.minimum(torch.maximum(guess, low + 1), high - 1).clamp_min(1)


@contextmanager
def _progress(total: int) -> Generator[Callable[[int], None]]:
    """A bar with rate and time left on a terminal."""
    console = Console(file=sys.stdout)
    columns = (TextColumn("proving"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("proving", total=total, rate="")

        def advance(images: int) -> None:
            bar.advance(task, images)
            bar.update(task, rate=f"{bar.tasks[0].speed or 0:.1f} images/s")

        yield advance


#: From the cheapest to the tightest. ibp: intervals up to the affine layers at the end. The others end with CROWN's
#: backward pass, and differ in what bounds the values before each ReLU: intervals, affine forms in the pixels, or CROWN
#: itself for every unit whose sign the forms leave open.
Technique = Literal["ibp", "crown-ibp", "crown-forward", "crown"]
#: Units of one backward pass of `crown` intermediate bounds, so that memory stays small.
ROWS = 512


def differences(labels: Tensor, classes: int) -> Tensor:
    """Rows (N, K − 1, K) that take every other class's logit from the label's; labels (N,)."""
    one_hot = torch.eye(classes, dtype=torch.float64, device=labels.device)
    others = torch.arange(classes - 1, device=labels.device)[None]
    others = others + (others >= labels[:, None])
    return one_hot[labels][:, None] - one_hot[others]


@torch.no_grad()
def margins(program: Program, images: Tensor, labels: Tensor, eps: Tensor, *, technique: Technique) -> Tensor:
    """Lower bounds (N, K − 1) of the label's logit minus each other class's, over a ball around each image.

    Parameters: images float64 (N, C, H, W) in [0, 1], labels (N,), eps (N,) in the same unit. The ball is all images
    within eps (l∞) and within [0, 1]. The bounds hold as pipeline.certification.intervals says: in real arithmetic and in
    float32. None is below that of `ibp`, which they are the larger of.
    """
    start = intervals.box(images, eps)
    bounds = intervals.propagate(program, start)
    ibp = _margins(program, bounds, labels, _before_last(program))
    if technique == "ibp":
        return ibp
    if technique != "crown-ibp":
        bounds = forms.propagate(program, start, tighten=_tightened if technique == "crown" else None)
    return torch.maximum(ibp, _margins(program, bounds, labels, 0))


def _margins(program: Program, bounds: Bounds, labels: Tensor, down_to: int) -> Tensor:
    last = len(program.steps)
    return Backward(program, bounds, differences(labels, program.shape(last)[0]), last).run(down_to)


def _tightened(program: Program, bounds: Bounds, node: int) -> Interval:
    """The interval of a node before a ReLU, by CROWN where its sign is open: elsewhere nothing would change."""
    interval = bounds.nodes[node]
    lower, upper = interval.lower.flatten(1).clone(), interval.upper.flatten(1).clone()
    for image in range(len(lower)):
        own = bounds.of(image)
        units = ((lower[image] < 0) & (upper[image] > 0)).nonzero().squeeze(1)
        for part in units.split(ROWS) if len(units) else ():
            rows = torch.zeros(2, len(part), lower.shape[1], device=lower.device)
            rows[0].scatter_(1, part[:, None], 1.0)
            rows[1] -= rows[0]
            found = Backward(program, own, rows.view(1, -1, *program.shape(node)), node).run(0).view(2, -1)
            lower[image, part] = torch.maximum(lower[image, part], found[0])
            upper[image, part] = torch.minimum(upper[image, part], -found[1])
    return Interval(lower.view_as(interval.lower), upper.view_as(interval.upper))


def _before_last(program: Program) -> int:
    """The node before the affine steps at the end, so that the differences are merged into them."""
    node = len(program.steps)
    while node and isinstance(program.steps[node - 1].layer, Affine):
        (node,) = program.steps[node - 1].inputs
    return node
