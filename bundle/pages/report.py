"""report.html: one self-contained page that a person reads, and its sections for a page with a header of its own.

The rows of its tables say what the claims say, in the order in which the page shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from bundle.attestation import model_version
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.numbers.proofs import SERVED
from bundle.pages import figures, headline
from bundle.pages.explorer import RULES, explore
from bundle.pages.gallery import choose
from bundle.pages.plots import plots
from bundle.pages.wording import (
    FILTERS,
    INSTALL,
    SHOWN,
    TIERS,
    attack_title,
    corruption_title,
    environment,
    leaves,
    sample_scope,
    signed,
    threat_name_title,
    threat_title,
    union_title,
)
from bundle.table.outcomes import Outcomes

#: The style sheet of the sections and figures; colours are variables on :root that a page around them may use too.
SHEET = files("bundle").joinpath("templates/style.css").read_text(encoding="utf-8")
#: The same with the filters of the explorer.
STYLE = SHEET + RULES
#: Shades of a table's cells, 0 (all right) to this (all wrong).
SHADES = 10


def render_report(
    predicate: Mapping[str, Any], digest: str, outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]
) -> str:
    """One self-contained HTML page, the same to the byte for the same bundle and release: no time, no script.

    Parameters
    ----------
    predicate : the attestation's, with claims and bounds; `files` may be missing, since the report is one of them.
    digest : SHA-256 of model.onnx.
    outcomes, images : the outcome table and the arrays of images.npz; with private evidence there are none, and no
        image is shown.
    """
    sections = render_sections(predicate, digest, outcomes, images)
    return _page("report.html").render(
        predicate=predicate,
        version=model_version(digest),
        digest=digest,
        style=STYLE,
        sections=sections,
        images=bool(images),
    )


def render_sections(
    predicate: Mapping[str, Any], digest: str, outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]
) -> str:
    """The report's sections as HTML with headings from h2 on; needs STYLE, no script and no inline style."""
    threat, shown = headline.headline_threat(predicate), headline.main_threats(predicate)
    return _page("sections.html").render(
        predicate=predicate,
        digest=digest,
        threat=threat,
        threats=shown,
        warnings=headline.warnings(predicate),
        scope=sample_scope(predicate["sample"]),
        tier=TIERS[predicate["tier"]],
        tiles=_tiles(predicate, threat),
        facts=_facts(predicate, threat),
        rows=result_rows(predicate, shown),
        unions=union_rows(predicate),
        sweep=sweep_rows(predicate),
        plots=list(plots(predicate, threat, outcomes)),
        gallery=choose(predicate, outcomes, images) if images else None,
        explorer=explore(predicate, outcomes, images) if images else None,
        worst=worst_rows(predicate),
        calibration=calibration_rows(predicate),
        corruptions=corruption_rows(predicate),
        agreement=agreement_rows(predicate),
        bounds=bound_rows(predicate),
        proofs=proof_rows(predicate),
        brackets=bracket_rows(predicate),
        average_radii=[bound for bound in predicate["bounds"] if bound["metric"] == "average_certified_radius"],
        settings=list(leaves(predicate["parameters"])),
        environment=list(leaves(environment(predicate))),
        install=INSTALL,
    )


@cache
def _environment() -> Environment:
    environment: Any = Environment(
        loader=PackageLoader("bundle"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(
        FILTERS | {name: _unbroken(FILTERS[name]) for name in ("percent", "interval", "threat_title")},
        signed=signed,
        named=lambda name, predicate: threat_name_title(predicate, name),
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
    proof, bound = headline.headline_proof(predicate), headline.headline_bound(predicate)
    return {
        "clean": (clean, figures.strip(clean, figures.SERVED)),
        "robust": (robust, figures.strip(robust, figures.SERVED)),
        "proved": proof and (proof, figures.strip(proof, figures.CERTIFIED)),
        "certified": bound and (bound, figures.strip(bound, figures.CERTIFIED)),
    }


def _facts(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the second rank, all of the served setting; what was not measured is None."""
    return {
        "worst": headline.worst_class(predicate, "served", threat["name"]),
        "calibration": [headline.calibration(predicate, "served", name) for name in (None, threat["name"])],
        "corruptions": headline.corruption_mean(predicate),
    }


def result_rows(predicate: Mapping[str, Any], threats: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Accuracy by attack at these threats; a cell is (setting, claim), with None where an attack was not run."""
    there = {threat["name"] for threat in threats}
    names = list(dict.fromkeys(attack["name"] for attack in predicate["attacks"] if attack["threat"] in there))
    return [_result_row(predicate, threats, attack) for attack in (None, *names, ALL_ATTACKS)]


def _result_row(
    predicate: Mapping[str, Any], threats: Sequence[Mapping[str, Any]], attack: str | None
) -> dict[str, Any]:
    """One row; `attack` is None for clean images."""
    return {
        "title": attack_title(attack) if attack else "clean",
        "judge": attack is not None and headline.is_judge(attack),
        "total": attack == ALL_ATTACKS,
        "flags": [
            f"{attack_title(item['name'])} at {threat_name_title(predicate, item['threat'])}: {flag}"
            for item in predicate["attacks"]
            for flag in item["flags"]
            if item["name"] == attack
        ],
        "cells": [
            (setting, _cell(predicate, setting, threat["name"], attack)) for threat in threats for setting in SHOWN
        ],
    }


def _cell(predicate: Mapping[str, Any], setting: str, threat: str, attack: str | None) -> dict[str, Any] | None:
    if attack is None:
        return headline.clean_claim(predicate, setting)
    return find_claim(predicate, "robust_accuracy", setting=setting, threat=threat, attack=attack)


def union_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy under every attack of every threat of a union; a cell is (setting, claim)."""
    return [
        {
            "title": union_title(predicate, union),
            "cells": [(setting, headline.robust_claim(predicate, setting, union["name"])) for setting in SHOWN],
        }
        for union in predicate["unions"]
    ]


def sweep_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy under the margin attack alone at the points of a sweep; a cell is (setting, claim)."""
    return [
        {
            "title": threat_title(threat),
            "cells": [(setting, headline.robust_claim(predicate, setting, threat["name"])) for setting in SHOWN],
        }
        for threat in headline.sweep_threats(predicate)
    ]


def bound_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def proof_rows(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bounds about the served classifier itself, by radius."""
    return [bound for bound in predicate["bounds"] if bound["classifier"] == SERVED]


def bracket_rows(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """For each attacked l∞ radius, how many images are proved, broken, and neither."""
    return [row for bracket in predicate["brackets"] for row in bracket["undecided"]]


def worst_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The worst class at each threat but the points of a sweep; a cell is (setting, entry)."""
    return [
        {
            "title": threat_title(threat),
            "cells": [(setting, headline.worst_class(predicate, setting, threat["name"])) for setting in SHOWN],
        }
        for threat in headline.main_threats(predicate)
    ]


def calibration_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration on clean images and at each threat but the points of a sweep; a cell is (setting, entry)."""
    return [
        {
            "title": "clean" if name is None else threat_name_title(predicate, name),
            "cells": [(setting, headline.calibration(predicate, setting, name)) for setting in SHOWN],
        }
        for name in (None, *(threat["name"] for threat in headline.main_threats(predicate)))
    ]


def agreement_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How often the two settings agree, by threat and attack."""
    return [
        {
            "threat": threat_name_title(predicate, item["threat"]) if "threat" in item else "none",
            "attack": attack_title(item["attack"]) if "attack" in item else "clean",
            **{key: item[key] for key in ("bothRight", "onlyReferenceBroken", "onlyServedBroken", "bothBroken")},
        }
        for item in predicate["agreement"]
    ]


def corruption_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy by corruption (rows) and severity; a cell is (accuracy, shade), and `mean` is over the severities."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(item["corruption"] for item in predicate["corruptionAccuracy"]):
        if name == "all":
            continue
        found = [item for item in predicate["corruptionAccuracy"] if item["corruption"] == name]
        accuracies = [item["value"] for item in sorted(found, key=lambda item: item["severity"])]
        rows.append(
            {
                "title": corruption_title(name),
                "cells": [(accuracy, shade(accuracy)) for accuracy in accuracies],
                "mean": (fmean(accuracies), shade(fmean(accuracies))),
            }
        )
    return rows


def shade(accuracy: float) -> int:
    """How strongly a cell is coloured: 0 where all is right, SHADES where all is wrong."""
    return round(SHADES * (1 - accuracy))
