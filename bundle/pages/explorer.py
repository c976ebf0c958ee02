"""The explorer of a report: image by image, what each attack made of it; filtered by class, attack and verdict.

A report runs no script, so the filters are the style sheet's: it looks at which choice of a list is chosen. RULES are the
same for every page, so that the service may send them as a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.pages.gallery import closest_attacks, data_uri
from bundle.pages.headline import attack_names, headline_threat
from bundle.pages.wording import attack_title, threat_title
from bundle.table.outcomes import Outcomes

#: Choices that RULES know: with more classes there is no list of them, and further attacks are left out.
CLASSES, ATTACKS = 48, 16
#: Characters that a page spends on pictures, and what stands around one: the images with the lowest margins come first.
PICTURES, AROUND = 300_000, 130


@dataclass(frozen=True)
class Attempt:
    """What one attack made of one image; `place` is the attack's among the choices (from 2), `picture` None for the clean."""

    place: int
    picture: str | None
    answer: str
    broken: bool
    closest: bool


@dataclass(frozen=True)
class Explored:
    """One image with everything that was tried on it; `place` is its class's among the choices (from 2)."""

    index: int
    label: str
    place: int
    clean: str
    answer: str
    right: bool
    attacked: list[Attempt]


@dataclass(frozen=True)
class Explorer:
    """The images of one threat, lowest margin first, `of` how many; the choices of the three lists but their first."""

    threat: str
    of: int
    classes: list[str]
    attacks: list[str]
    images: list[Explored]


def explore(predicate: Mapping[str, Any], outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]) -> Explorer:
    """The images of the headline's threat as the served model judged them, as many as PICTURES allows."""
    threat = headline_threat(predicate)
    names = attack_names(predicate, threat["name"])[:ATTACKS]
    closest, margins = closest_attacks(outcomes, threat["name"], names)
    classes = [predicate["data"]["classes"][label] for label in np.unique(outcomes["label"])]
    prefix, found, held = threat["name"], list[Explored](), 0
    for row in np.argsort(np.minimum(margins, outcomes["served/clean/margin"]), kind="stable"):
        image = _explored(predicate, outcomes, images, (prefix, names, int(closest[row])), int(row))
        held += len(image.clean) + sum(AROUND + len(item.picture or "") for item in image.attacked)
        if held > PICTURES:
            break
        found.append(image)
    listed = classes if len(classes) <= CLASSES else []
    return Explorer(threat_title(threat), len(outcomes), listed, [attack_title(name) for name in names], found)


def _explored(
    predicate: Mapping[str, Any],
    outcomes: Outcomes,
    images: Mapping[str, NDArray[np.uint8]],
    attacks: tuple[str, list[str], int],
    row: int,
) -> Explored:
    """One row; `attacks` is the threat's name, its attacks, and which of them came closest to this image."""
    prefix, names, closest = attacks
    classes, label, clean = predicate["data"]["classes"], int(outcomes["label"][row]), images["clean"][row]
    attacked = [
        Attempt(
            place=place + 2,
            picture=_changed(clean, images[f"{prefix}/{name}"][row]),
            answer=classes[int(outcomes[f"served/{prefix}/{name}/prediction"][row])],
            broken=bool(outcomes[f"served/{prefix}/{name}/broken"][row]),
            closest=place == closest,
        )
        for place, name in enumerate(names)
    ]
    return Explored(
        index=int(outcomes["index"][row]),
        label=classes[label],
        place=int(np.searchsorted(np.unique(outcomes["label"]), label)) + 2,
        clean=data_uri(clean),
        answer=classes[int(outcomes["served/clean/prediction"][row])],
        right=bool(outcomes.clean_right("served")[row]),
        attacked=attacked,
    )


def _changed(clean: NDArray[np.uint8], attacked: NDArray[np.uint8]) -> str | None:
    """The picture of an attacked image; None where the attack handed the clean one back."""
    return None if np.array_equal(clean, attacked) else data_uri(attacked)


def _chosen(kind: str, place: int) -> str:
    """A selector of the explorer in which a list has its choice at `place` chosen."""
    return f".explorer:has(.{kind} option:nth-child({place}):checked)"


def _rules() -> str:
    """Of class and attack, all but the chosen is hidden; images of which nothing is left are hidden too."""
    hide = "{display:none}"
    lines = [f"{_chosen('by-class', place)} .item:not(.c{place}){hide}" for place in range(2, CLASSES + 2)]
    for place, attack in [(1, "near"), *((place, f"a{place}") for place in range(2, ATTACKS + 2))]:
        chosen = _chosen("by-attack", place)
        lines.append(f"{chosen} .seen:not(.{attack}){hide}")
        for choice, verdict in ((2, "broken"), (3, "held")):
            lines.append(f"{chosen}{_chosen('by-verdict', choice)} .item:not(:has(.{attack}.{verdict})){hide}")
    return "\n".join(lines) + "\n"


RULES = _rules()
