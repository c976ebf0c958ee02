"""report.html: one self-contained page that a person reads, and its sections for a page with a header of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from bundle import figures, headline
from bundle.attestation import model_version
from bundle.claims import ALL_ATTACKS, find_claim
from bundle.gallery import choose, closest_attacks
from bundle.outcomes import SETTINGS, Outcomes
from bundle.threats import RADIUS_FIELD, Norm
from bundle.wording import FILTERS, attack_title, leaves, signed, threat_name_title, threat_title

#: The style sheet of the sections and figures; colours are variables on :root that a page around them may use too.
STYLE = files("bundle").joinpath("templates/style.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Plot:
    """A figure (SVG) with its heading and a caption that says how to read it."""

    heading: str
    figure: str
    caption: str


def render_report(
    predicate: Mapping[str, Any], digest: str, outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]
) -> str:
    """One self-contained HTML page, the same to the byte for the same bundle: no time, no script, nothing from outside.

    Parameters
    ----------
    predicate : the attestation's, with claims and bounds; `files` may be missing, since the report is one of them.
    digest : SHA-256 of model.onnx.
    outcomes, images : the outcome table and the arrays of images.npz.
    """
    sections = render_sections(predicate, digest, outcomes, images)
    return _page("report.html").render(
        predicate=predicate, version=model_version(digest), digest=digest, style=STYLE, sections=sections
    )


def render_sections(
    predicate: Mapping[str, Any], digest: str, outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]
) -> str:
    """The report's sections as HTML with headings from h2 on; needs STYLE, no script and no inline style."""
    threat = headline.headline_threat(predicate)
    return _page("sections.html").render(
        predicate=predicate,
        digest=digest,
        threat=threat,
        warnings=headline.warnings(predicate),
        tiles=_tiles(predicate, threat),
        rows=_result_rows(predicate),
        plots=list(_plots(predicate, threat, outcomes)),
        gallery=choose(predicate, outcomes, images),
        bounds=_bound_rows(predicate),
        average_radii=[bound for bound in predicate["bounds"] if bound["metric"] == "average_certified_radius"],
        settings=list(leaves(predicate["parameters"])),
        environment=list(leaves(predicate["environment"])),
    )


@cache
def _environment() -> Environment:
    environment: Any = Environment(
        loader=PackageLoader("bundle"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        FILTERS | {name: _unbroken(FILTERS[name]) for name in ("percent", "interval", "threat_title")},
        signed=signed,
    )
    return environment


def _page(name: str) -> Any:
    return _environment().get_template(name)


def _unbroken(wording: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same wording without a line break between a number and its unit."""

    def unbroken(value: Any) -> str:
        return wording(value).replace(" ", "\u00a0")

    return unbroken


def _tiles(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> dict[str, Any]:
    clean = headline.clean_claim(predicate, "served")
    robust = headline.robust_claim(predicate, "served", threat["name"])
    bound = headline.headline_bound(predicate)
    return {
        "clean": (clean, figures.strip(clean, figures.SERVED)),
        "robust": (robust, figures.strip(robust, figures.SERVED)),
        "certified": bound and (bound, figures.strip(bound, figures.CERTIFIED)),
    }


def _result_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the results table; a cell is (setting, claim), with None where an attack was not run for a threat."""
    names = list(dict.fromkeys(attack["name"] for attack in predicate["attacks"]))
    return [_result_row(predicate, attack) for attack in (None, *names, ALL_ATTACKS)]


def _result_row(predicate: Mapping[str, Any], attack: str | None) -> dict[str, Any]:
    """One row; `attack` is None for clean images."""
    return {
        "title": attack_title(attack) if attack else "clean",
        "judge": attack in headline.JUDGES,
        "total": attack == ALL_ATTACKS,
        "flags": [
            f"{attack_title(item['name'])} at {threat_name_title(predicate, item['threat'])}: {flag}"
            for item in predicate["attacks"]
            for flag in item["flags"]
            if item["name"] == attack
        ],
        "cells": [
            (setting, _cell(predicate, setting, threat["name"], attack))
            for threat in predicate["threats"]
            for setting in SETTINGS
        ],
    }


def _cell(predicate: Mapping[str, Any], setting: str, threat: str, attack: str | None) -> dict[str, Any] | None:
    if attack is None:
        return headline.clean_claim(predicate, setting)
    return find_claim(predicate, "robust_accuracy", setting=setting, threat=threat, attack=attack)


def _bound_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of bounds: a radius, and each smoothed classifier's bound; None where it was not asked for."""
    radii = sorted({radius for item in predicate["smoothing"] for radius in item["radii"]})
    return [
        {
            "radius": radius,
            "cells": [
                find_claim(predicate, "certified_accuracy", classifier=item["name"], radius=radius)
                for item in predicate["smoothing"]
            ],
        }
        for radius in radii
    ]


def _plots(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Iterator[Plot]:
    title, points = threat_title(threat), _eps_points(predicate, threat["norm"])
    yield Plot(
        "By attack",
        figures.by_attack(_attack_rows(predicate, threat), title),
        "Whiskers are 95 % intervals. The weakest point of a model is what counts: all attacks together.",
    )
    yield Plot(
        "Against the size of the perturbation",
        figures.by_eps(points, threat["norm"]),
        "At ε = 0 nobody attacks. Accuracy should fall towards zero as ε grows, or the attacks do not work. "
        + (
            "Lines only join the measured points."
            if len(points[figures.SERVED]) > 2
            else "Only these sizes were measured."
        ),
    )
    yield _margin_plot(predicate, threat, outcomes)
    if predicate["smoothing"]:
        yield Plot(
            "Certified: the smoothed classifier",
            figures.certified_curve(_certified(predicate, outcomes)),
            "A lower bound about another classifier than the one that answers, in l2: no attack inside the radius "
            "changes its answer, up to the stated chance of error. The band is the 95 % interval over images.",
        )
    shares, missing = _class_shares(predicate, threat, outcomes)
    yield Plot("By class", figures.by_class(shares), _class_caption(len(shares), missing, title))


def _attack_rows(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    reference, served = (headline.clean_claim(predicate, setting) for setting in SETTINGS)
    rows = [("clean", reference, served)]
    for name in [*headline.attack_names(predicate, threat["name"]), ALL_ATTACKS]:
        reference, served = (headline.robust_claim(predicate, setting, threat["name"], name) for setting in SETTINGS)
        rows.append((attack_title(name), reference, served))
    return rows


def _eps_points(predicate: Mapping[str, Any], norm: Norm) -> dict[str, list[tuple[float, Any]]]:
    """Claims against the radius, for one norm: radii of different norms do not go on one axis."""
    field = RADIUS_FIELD[norm]
    threats = sorted((item for item in predicate["threats"] if item["norm"] == norm), key=lambda item: item[field])
    return {
        setting: [
            (0.0, headline.clean_claim(predicate, setting)),
            *((threat[field], headline.robust_claim(predicate, setting, threat["name"])) for threat in threats),
        ]
        for setting in SETTINGS
    }


def _class_shares(
    predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes
) -> tuple[list[figures.ClassShare], int]:
    """The served shares of the classes that the sample has, and how many classes it lacks."""
    names, labels = predicate["data"]["classes"], outcomes["label"]
    robust = outcomes.robust("served", threat["name"], headline.attack_names(predicate, threat["name"]))
    sizes = np.bincount(labels, minlength=len(names))
    counts = [np.bincount(labels[right], minlength=len(names)) for right in (robust, outcomes.clean_right("served"))]
    shares = [
        figures.ClassShare(name, int(held), int(right), int(size))
        for name, held, right, size in zip(names, *counts, sizes, strict=True)
        if size
    ]
    return shares, len(names) - len(shares)


def _class_caption(present: int, missing: int, threat: str) -> str:
    caption = f"Served setting, {threat}, worst class first. Few images a class make wide intervals."
    if present > figures.CLASSES_SHOWN:
        caption += f" The {figures.CLASSES_SHOWN} worst of {present} classes are shown."
    return caption + (f" The sample has no image of {missing} other classes." if missing else "")


def _margin_plot(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Plot:
    names = headline.attack_names(predicate, threat["name"])
    _, attacked = closest_attacks(outcomes, threat["name"], names)
    margins = np.minimum(attacked, outcomes["served/clean/margin"])
    return Plot(
        "How close the calls are",
        figures.margin_histogram(margins, outcomes.robust("served", threat["name"], names)),
        f"Served setting, {threat_title(threat)}: the lowest margin that any attack left on each image. The margin is "
        "the logit of the right class minus the largest other: below zero the answer is wrong, and images just above "
        "zero are the next to fall.",
    )


def _certified(predicate: Mapping[str, Any], outcomes: Outcomes) -> list[figures.Certified]:
    return [
        figures.Certified(
            item["sigma"],
            outcomes[f"{item['name']}/radius"] * (outcomes[f"{item['name']}/selected"] == outcomes["label"]),
            item["radii"],
        )
        for item in predicate["smoothing"]
    ]
