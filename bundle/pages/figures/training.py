"""The figure of a training: accuracy on validation images and the loss, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import Any

from bundle.pages.svg import SERVED, WIDTH, Scale, drawing, level_grid, line, path, percent_levels, round_step, text
from bundle.pages.wording import number, percent

LEFT, RIGHT = 54.0, WIDTH - 14.0
#: Upper and lower edge of each panel, in pixels.
ACCURACY, LOSS = (34.0, 174.0), (212.0, 272.0)


def training(curve: Sequence[Mapping[str, Any]], selected: int) -> str:
    """Two panels over the same epochs; a row of `curve` has epoch, loss, clean and pgd_10, and one epoch was `selected`."""
    last = max(curve[-1]["epoch"], curve[0]["epoch"] + 1)
    x, y = Scale(curve[0]["epoch"], last, LEFT, RIGHT), Scale(0, 1, ACCURACY[1], ACCURACY[0])
    parts = [
        *_legend(),
        percent_levels(y, LEFT, RIGHT),
        line(x(selected), ACCURACY[0], x(selected), LOSS[1], "zero"),
        *(_line(curve, x, y, name, kind) for name, kind in (("clean", "clean"), ("pgd_10", SERVED))),
        *_loss_panel(curve, x),
        *_epochs(x),
    ]
    parts.append(text(14, y(0.5), "validation (%)", anchor="middle", kind="axis", turn=True))
    parts.append(text(14, sum(LOSS) / 2, "loss", anchor="middle", kind="axis", turn=True))
    words = "; ".join(
        f"epoch {row['epoch']}: clean {percent(row['clean'])}, PGD-10 {percent(row['pgd_10'])}, loss {number(row['loss'])}"
        for row in curve
    )
    return drawing("training", f"Validation accuracy and loss by epoch; epoch {selected} was chosen", words, 320, parts)


def _line(curve: Sequence[Mapping[str, Any]], x: Scale, y: Scale, name: str, kind: str) -> str:
    return path([(x(row["epoch"]), y(row[name])) for row in curve], f"curve {kind}")


def _legend() -> list[str]:
    entries = (("curve clean", "clean"), (f"curve {SERVED}", "under PGD-10"), ("zero", "chosen"))
    parts: list[str] = []
    for (kind, name), left in zip(entries, (58, 150, 300), strict=True):
        parts += [line(left, 10.5, left + 22, 10.5, kind), text(left + 29, 15, name)]
    return parts


def _loss_panel(curve: Sequence[Mapping[str, Any]], x: Scale) -> list[str]:
    """The loss with zero in sight; some methods' may be negative. Its levels are at most four round values."""
    low, high = min(0.0, *(row["loss"] for row in curve)), max(0.0, *(row["loss"] for row in curve))
    high = high if high > low else 1.0
    y, step = Scale(low, high, LOSS[1], LOSS[0]), round_step(high - low, 3)
    places = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
    levels = [(step * place, f"{step * place:g}".replace("-", "−")) for place in places]
    return [*level_grid(y, levels, LEFT, RIGHT), _line(curve, x, y, "loss", "outline")]


def _epochs(x: Scale) -> list[str]:
    step = max(1, round(round_step(x.high - x.low, 7)))
    places = range(-(-int(x.low) // step) * step, int(x.high) + 1, step)
    ticks = [text(x(place), LOSS[1] + 17, str(place), anchor="middle", kind="tick") for place in places]
    return [*ticks, text((LEFT + RIGHT) / 2, LOSS[1] + 36, "epoch", anchor="middle", kind="axis")]
