"""Rows of the report's tables: what the claims say, in the order in which a page shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.numbers.proofs import SERVED
from bundle.pages import headline
from bundle.pages.wording import attack_title, corruption_title, threat_name_title, threat_title, union_title
from bundle.table.outcomes import SETTINGS

#: Shades of a table's cells, 0 (all right) to this (all wrong).
SHADES = 10


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
            (setting, _cell(predicate, setting, threat["name"], attack)) for threat in threats for setting in SETTINGS
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
            "cells": [(setting, headline.robust_claim(predicate, setting, union["name"])) for setting in SETTINGS],
        }
        for union in predicate["unions"]
    ]


def sweep_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy under the margin attack alone at the points of a sweep; a cell is (setting, claim)."""
    return [
        {
            "title": threat_title(threat),
            "cells": [(setting, headline.robust_claim(predicate, setting, threat["name"])) for setting in SETTINGS],
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
            "cells": [(setting, headline.worst_class(predicate, setting, threat["name"])) for setting in SETTINGS],
        }
        for threat in headline.main_threats(predicate)
    ]


def calibration_rows(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration on clean images and at each threat but the points of a sweep; a cell is (setting, entry)."""
    return [
        {
            "title": "clean" if name is None else threat_name_title(predicate, name),
            "cells": [(setting, headline.calibration(predicate, setting, name)) for setting in SETTINGS],
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
    """Accuracy by corruption (rows) and severity; a cell is (share, shade), and `mean` is over the severities."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(item["corruption"] for item in predicate["corruptionAccuracy"]):
        if name == "all":
            continue
        found = [item for item in predicate["corruptionAccuracy"] if item["corruption"] == name]
        shares = [item["value"] for item in sorted(found, key=lambda item: item["severity"])]
        rows.append(
            {
                "title": corruption_title(name),
                "cells": [(share, shade(share)) for share in shares],
                "mean": (fmean(shares), shade(fmean(shares))),
            }
        )
    return rows


def shade(share: float) -> int:
    """How strongly a cell is coloured: 0 where all is right, SHADES where all is wrong."""
    return round(SHADES * (1 - share))
