"""Images beside their adversarial versions, as PNG inside the page, chosen by a rule and not by taste."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.headline import attack_names, headline_threat, strongest_attack
from bundle.outcomes import Outcomes
from bundle.wording import attack_title, threat_title

BROKEN, HELD = 6, 4


@dataclass(frozen=True)
class Picture:
    """One row of the gallery; images are data URIs, margins are those of the served model."""

    row: int
    index: int
    label: str
    clean: str
    adversarial: str
    difference: str
    held: bool
    clean_margin: float
    margin: float


@dataclass(frozen=True)
class Gallery:
    """The pictures of one attack; `broken` and `held` count all images of which some are shown."""

    attack: str
    threat: str
    amplification: int
    broken_count: int
    held_count: int
    broken: list[Picture]
    held: list[Picture]


def choose(predicate: Mapping[str, Any], outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]) -> Gallery:
    """The images with the lowest margins under the strongest attack of the headline threat.

    `broken` are right when clean and wrong under this attack; `held` are right under every attack. Both come lowest
    margin first, then by row: the clearest successes of the attack, and the closest calls.
    """
    threat = headline_threat(predicate)
    attack = strongest_attack(predicate, threat["name"])
    name = f"{threat['name']}/{attack}"
    margins = outcomes[f"served/{name}/margin"]
    broken = outcomes.clean_right("served") & outcomes[f"served/{name}/broken"].astype(bool)
    held = outcomes.robust("served", threat["name"], attack_names(predicate, threat["name"]))
    amplification = max(1, 127 // max(1, threat["levels"]))

    def picture(row: int) -> Picture:
        clean, adversarial = images["clean"][row], images[name][row]
        return Picture(
            row=row,
            index=int(outcomes["index"][row]),
            label=predicate["data"]["classes"][int(outcomes["label"][row])],
            clean=data_uri(clean),
            adversarial=data_uri(adversarial),
            difference=data_uri(difference(clean, adversarial, amplification)),
            held=bool(held[row]),
            clean_margin=float(outcomes["served/clean/margin"][row]),
            margin=float(margins[row]),
        )

    return Gallery(
        attack=attack_title(attack),
        threat=threat_title(threat),
        amplification=amplification,
        broken_count=int(broken.sum()),
        held_count=int(held.sum()),
        broken=[picture(row) for row in _lowest(margins, broken, BROKEN)],
        held=[picture(row) for row in _lowest(margins, held, HELD)],
    )


def _lowest(margins: NDArray[np.floating[Any]], among: NDArray[np.bool_], count: int) -> list[int]:
    rows = np.flatnonzero(among)
    return [int(row) for row in rows[np.argsort(margins[rows], kind="stable")][:count]]


def difference(clean: NDArray[np.uint8], adversarial: NDArray[np.uint8], amplification: int) -> NDArray[np.uint8]:
    """What the attack added, `amplification` times, around middle grey; images uint8 (H, W, C)."""
    change = adversarial.astype(np.int32) - clean.astype(np.int32)
    return np.clip(128 + amplification * change, 0, 255).astype(np.uint8)


def data_uri(image: NDArray[np.uint8]) -> str:
    """An image uint8 (H, W, C) as a PNG data URI: the first three channels in colour, or the first in grey."""
    pixels = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
