"""Images beside their adversarial versions, as PNG inside the page, chosen by a rule and not by taste."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.pages.headline import attack_names, headline_threat
from bundle.pages.wording import attack_title, threat_title
from bundle.table.outcomes import Outcomes

BROKEN, HELD = 6, 4


@dataclass(frozen=True)
class GalleryImage:
    """One row of the gallery: the attack that came closest; images are data URIs, answer and margins the served model's."""

    row: int
    index: int
    label: str
    answer: str
    attack: str
    clean: str
    adversarial: str
    difference: str
    held: bool
    clean_margin: float
    margin: float


@dataclass(frozen=True)
class Gallery:
    """The pictures of one threat; `broken_count` and `held_count` count all images of which some are shown."""

    threat: str
    amplification: int
    broken_count: int
    held_count: int
    broken: list[GalleryImage]
    held: list[GalleryImage]


def choose(predicate: Mapping[str, Any], outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]) -> Gallery:
    """The images with the lowest margins at the headline threat, each as the attack that came closest left it.

    `broken` are right when clean and wrong under some attack; `held` are right under every attack. Both come lowest
    margin first, then by row: the clearest successes of the attacks, and the closest calls.
    """
    threat = headline_threat(predicate)
    names = attack_names(predicate, threat["name"])
    closest, margins = closest_attacks(outcomes, threat["name"], names)
    answers = np.stack([outcomes[f"served/{threat['name']}/{name}/prediction"] for name in names])
    held = outcomes.robust("served", threat["name"], names)
    broken = outcomes.clean_right("served") & ~held
    broken_rows, held_rows = _lowest(margins, broken, BROKEN), _lowest(margins, held, HELD)
    shown = {
        row: (images["clean"][row], images[f"{threat['name']}/{names[closest[row]]}"][row])
        for row in [*broken_rows, *held_rows]
    }
    amplification = max(1, 127 // max(1, _largest_change(threat, shown.values())))

    def picture(row: int) -> GalleryImage:
        clean, adversarial = shown[row]
        return GalleryImage(
            row=row,
            index=int(outcomes["index"][row]),
            label=predicate["data"]["classes"][int(outcomes["label"][row])],
            answer=predicate["data"]["classes"][int(answers[closest[row], row])],
            attack=attack_title(names[closest[row]]),
            clean=data_uri(clean),
            adversarial=data_uri(adversarial),
            difference=data_uri(difference(clean, adversarial, amplification)),
            held=bool(held[row]),
            clean_margin=float(outcomes["served/clean/margin"][row]),
            margin=float(margins[row]),
        )

    return Gallery(
        threat=threat_title(threat),
        amplification=amplification,
        broken_count=int(broken.sum()),
        held_count=int(held.sum()),
        broken=[picture(row) for row in broken_rows],
        held=[picture(row) for row in held_rows],
    )


def _largest_change(threat: Mapping[str, Any], pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> int:
    """Levels that a pixel value moves at most: what an l∞ ball allows, or the most that these images show."""
    if threat["norm"] == "linf":
        return threat["levels"]
    return max((int(np.abs(after.astype(np.int32) - before).max()) for before, after in pairs), default=1)


def closest_attacks(
    outcomes: Outcomes, threat: str, names: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.floating[Any]]]:
    """For each image the place in `names` of the attack that came closest, and the served margin that it left.

    An attack that broke the image comes before one that did not. One attack alone would not do: AutoAttack hands back
    the clean image where it fails, whose margin says nothing about how close the call was.
    """
    margins = np.stack([outcomes[f"served/{threat}/{name}/margin"] for name in names])
    broken = np.stack([outcomes[f"served/{threat}/{name}/broken"].astype(bool) for name in names])
    closest = np.lexsort((margins, ~broken), axis=0)[0]
    return closest, margins[closest, np.arange(len(closest))]


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
