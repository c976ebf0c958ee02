"""report.html: one self-contained page that a person reads, and its sections for a page that has a header of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from bundle import figures, headline
from bundle.attestation import model_version
from bundle.claims import ALL_ATTACKS, find_claim
from bundle.gallery import choose
from bundle.outcomes import SETTINGS, Outcomes

#: The style sheet of the sections and figures; colours are variables on :root that a page around them may use too.
STYLE = files("bundle").joinpath("templates/style.css").read_text(encoding="utf-8")


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
    sections = Markup(render_sections(predicate, digest, outcomes, images))
    return _page("report.html").render(
        predicate=predicate, version=model_version(digest), digest=digest, style=Markup(STYLE), sections=sections
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
        plots=[(heading, figure, caption.replace(" %", "\u00a0%")) for heading, figure, caption in _plots(predicate, threat, outcomes)],
        gallery=choose(predicate, outcomes, images),
        bounds=_bound_rows(predicate),
        average_radii=[bound for bound in predicate["bounds"] if bound["metric"] == "average_certified_radius"],
        settings=list(flat(predicate["parameters"])),
        environment=list(flat(predicate["environment"])),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bundle"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        percent=lambda share: _unbroken(headline.percent(share)),
        interval=lambda claim: _unbroken(headline.interval(claim)),
        number=headline.number,
        comparator=headline.comparator,
        attack_title=headline.attack_title,
        threat_title=lambda threat: _unbroken(headline.threat_title(threat)),
        signed=lambda value: f"{value:+.2f}".replace("-", "\u2212"),
        flat=lambda section: ", ".join(f"{name} {value}" for name, value in flat(section)),
    )
    return environment


def _page(name: str) -> Any:
    return _environment().get_template(name)


def _unbroken(content: str) -> str:
    """No line break between a number and its unit."""
    return content.replace(" ", "\u00a0")


def _tiles(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> dict[str, Any]:
    clean, robust = headline.clean_claim(predicate, "served"), headline.robust_claim(predicate, "served", threat["name"])
    bound = headline.headline_bound(predicate)
    return {
        "clean": (clean, Markup(figures.strip(clean, figures.SERVED))),
        "robust": (robust, Markup(figures.strip(robust, figures.SERVED))),
        "certified": bound and (bound, Markup(figures.strip(bound, figures.CERTIFIED))),
    }


def _result_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the results table; a cell is (setting, claim), with None where an attack was not run for a threat."""
    names = list(dict.fromkeys(attack["name"] for attack in predicate["attacks"]))
    rows = [_result_row(predicate, "clean", None)]
    return [*rows, *(_result_row(predicate, name, name) for name in names), _result_row(predicate, "all attacks", ALL_ATTACKS)]


def _result_row(predicate: Mapping[str, Any], title: str, attack: str | None) -> dict[str, Any]:
    cells = []
    for threat in predicate["threats"]:
        run = attack in (None, ALL_ATTACKS, *headline.attack_names(predicate, threat["name"]))
        for setting in SETTINGS:
            if attack is None:
                cells.append((setting, headline.clean_claim(predicate, setting)))
            else:
                cells.append((setting, headline.robust_claim(predicate, setting, threat["name"], attack) if run else None))
    return {
        "title": headline.attack_title(title),
        "judge": attack in headline.JUDGES,
        "total": attack == ALL_ATTACKS,
        "flags": [
            f"{headline.attack_title(item['name'])} at {headline.threat_name_title(predicate, item['threat'])}: {flag}"
            for item in predicate["attacks"]
            for flag in item["flags"]
            if item["name"] == attack
        ],
        "cells": cells,
    }


def _bound_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of bounds: a radius, and the bound of each smoothed classifier; None where it was not asked for."""
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


def _plots(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Iterator[tuple[str, Markup, str]]:
    """Heading, figure and one sentence that says how to read it."""
    title = headline.threat_title(threat)
    yield "By attack", Markup(figures.by_attack(_attack_rows(predicate, threat), title)), (
        "Whiskers are 95 % intervals. The weakest point of a model is what counts: all attacks together."
    )
    joined = " Lines only join the measured points." if len(predicate["threats"]) > 1 else " Only these sizes were measured."
    yield "Against the size of the perturbation", Markup(figures.by_eps(_eps_points(predicate))), (
        "At ε = 0 nobody attacks. Accuracy should fall towards zero as ε grows, or the attacks do not work." + joined
    )
    shares, missing = _class_shares(predicate, threat, outcomes)
    yield "By class", Markup(figures.by_class(shares)), _class_caption(len(shares), missing, title)
    yield _margin_plot(predicate, threat, outcomes)
    if predicate["smoothing"]:
        yield "Certified: the smoothed classifier", Markup(figures.certified_curve(_certified(predicate, outcomes))), (
            "A lower bound about another classifier than the one that answers, in l2: no attack inside the radius changes "
            "its answer. The band is the 95 % interval over images."
        )


def _attack_rows(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    rows = [("clean", *(headline.clean_claim(predicate, setting) for setting in SETTINGS))]
    for name in [*headline.attack_names(predicate, threat["name"]), ALL_ATTACKS]:
        pair = (headline.robust_claim(predicate, setting, threat["name"], name) for setting in SETTINGS)
        rows.append((headline.attack_title(name), *pair))
    return rows


def _eps_points(predicate: Mapping[str, Any]) -> dict[str, list[tuple[float, Any]]]:
    threats = sorted(predicate["threats"], key=lambda threat: threat["eps_255"])
    return {
        setting: [
            (0.0, headline.clean_claim(predicate, setting)),
            *((threat["eps_255"], headline.robust_claim(predicate, setting, threat["name"])) for threat in threats),
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


def _class_caption(shown: int, missing: int, threat: str) -> str:
    caption = f"Served setting, {threat}, worst class first. Few images a class make wide intervals: differences may be chance."
    if shown > figures.CLASSES_SHOWN:
        caption += f" The {figures.CLASSES_SHOWN} worst of {shown} classes are shown."
    return caption + (f" The sample has no image of {missing} other classes." if missing else "")


def _margin_plot(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> tuple[str, Markup, str]:
    attack = headline.strongest_attack(predicate, threat["name"])
    name, title = f"served/{threat['name']}/{attack}", headline.attack_title(attack)
    right = ~outcomes[f"{name}/broken"].astype(bool)
    figure = figures.margin_histogram(outcomes[f"{name}/margin"], right, title)
    return "How close the calls are", Markup(figure), (
        f"Served setting, {title} at {headline.threat_title(threat)}. The margin is the logit of the right class minus the largest other: "
        "below zero the answer is wrong; many images just above zero would fall to a slightly stronger attack."
    )


def _certified(predicate: Mapping[str, Any], outcomes: Outcomes) -> list[figures.Certified]:
    return [
        figures.Certified(
            item["sigma"],
            np.where(outcomes[f"{item['name']}/selected"] == outcomes["label"], outcomes[f"{item['name']}/radius"], 0.0),
            item["radii"],
        )
        for item in predicate["smoothing"]
    ]


def flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings as (`train.epochs`, 20), sorted by name."""
    for name, value in sorted(section.items()):
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
