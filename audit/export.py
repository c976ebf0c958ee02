"""Versions and differences as rows of tables for other programs (bundle.pages.tabular); SARIF of a gate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from audit.difference import COMMON_ATTACKS, Comparison, percentages
from audit.recipes import Recipes
from audit.terminal import percent_short
from audit.versions.find import Version
from audit.versions.summary import farthest_proof
from bundle.gate.gate import Gate
from bundle.gate.policy import Rule
from bundle.pages.headline import headline
from bundle.pages.tabular import Rows, TableForm
from bundle.pages.wording import attack_title, points


def version_rows(versions: Sequence[Version], form: TableForm) -> Rows:
    """A row a version that can be read: for CSV all headline numbers, else those that stand in papers."""
    read = [version for version in versions if version.statement is not None]
    return [_version_in_full(item) if form is TableForm.CSV else _version_in_short(item) for item in read]


def _tags(version: Version) -> str:
    return " ".join(place.name for place in version.places if place.kind == "tag")


def _version_in_full(version: Version) -> dict[str, Any]:
    assert version.statement is not None
    top, predicate = headline(version.statement), version.statement["predicate"]
    proof = farthest_proof(predicate) or {}
    row: dict[str, Any] = {
        **{"version": top["version"], "digest": top["digest"], "attestation": version.attestation},
        **{"tags": _tags(version), "places": "; ".join(map(str, version.places))},
        **{"data": top["data"], "method": predicate["method"]["name"], "network": predicate["network"]["name"]},
        **{"tier": top["tier"], "images": top["n"], "threat": top["robust"]["threat"]},
    }
    for metric in ("clean", "robust"):
        for setting in ("served", "reference"):
            row |= _ends(f"{metric}_{setting}", top[metric][setting])
    row |= {"proved_eps_255": proof.get("eps_255", ""), **_ends("proved", proof or None)}
    smoothed = top["certified"]
    row |= {"smoothed_radius": smoothed["radius"] if smoothed else "", **_ends("smoothed", smoothed)}
    return row | {"flags": len(top["flags"]), "reliable": top["reliable"], "signature": version.signature}


def _ends(name: str, claim: Mapping[str, Any] | None) -> dict[str, Any]:
    value, (lower, upper) = (claim["value"], claim["interval"]) if claim else ("", ("", ""))
    return {name: value, f"{name}_lower": lower, f"{name}_upper": upper}


def _version_in_short(version: Version) -> dict[str, Any]:
    assert version.statement is not None
    top, proof = headline(version.statement), farthest_proof(version.statement["predicate"])
    return {
        **{"version": top["version"], "tag": _tags(version) or "–", "data": top["data"], "method": top["method"]},
        "clean": percent_short(top["clean"]["served"]),
        "robust": percent_short(top["robust"]["served"]) + ("" if top["reliable"] else " (UNRELIABLE)"),
        "threat": top["robust"]["threat"],
        "proved": f"{percent_short(proof)} at {proof['eps_255']:g}/255" if proof else "–",
        "images": top["n"],
    }


def difference_rows(comparisons: Sequence[Comparison], form: TableForm) -> Rows:
    """A row a comparison: B minus A on the same images."""
    return [_compared_in_full(item) if form is TableForm.CSV else _compared_in_short(item) for item in comparisons]


def _compared_in_full(item: Comparison) -> dict[str, Any]:
    lower, upper = item.pair.interval
    return {
        **{"setting": item.setting, "threat": item.threat or "", "attack": item.attack or "clean"},
        **{"images": item.pair.images, "a": item.value_a, "b": item.value_b, "difference": item.pair.difference},
        **{"lower": lower, "upper": upper, "only_a": item.pair.only_a, "only_b": item.pair.only_b},
    }


def _compared_in_short(item: Comparison) -> dict[str, Any]:
    lower, upper = (points(end) for end in item.pair.interval)
    a, b = percentages(item)
    named = {None: "clean images", COMMON_ATTACKS: "all that both met"}.get(item.attack)
    return {
        **{"setting": item.setting, "threat": item.threat or "–", "attack": named or attack_title(item.attack or "")},
        **{"A": a, "B": b, "B − A in points": f"{points(item.pair.difference)} [{lower}, {upper}]"},
    }


def recipe_rows(found: Recipes) -> Rows:
    """A row a number of two recipes: the means over the seeds, and the interval where there are seeds enough."""
    rows: list[dict[str, Any]] = []
    for item in found.spreads:
        lower, upper = item.interval if item.interval and found.enough else ("", "")
        means = {side: sum(values) / len(values) for side, values in (("a", item.values_a), ("b", item.values_b))}
        where = {"setting": item.setting, "threat": item.threat or "clean"}
        rows.append({**where, **means, "difference": item.difference, "lower": lower, "upper": upper})
    return rows


def sarif(found: Gate) -> dict[str, Any]:
    """A gate's answer as SARIF 2.1.0: a result a rule, of kind pass or fail, at the policy that asks for it."""
    place = {"physicalLocation": {"artifactLocation": {"uri": found.policy.source}, "region": {"startLine": 1}}}
    results = [
        {
            "ruleId": _identity(rule),
            "kind": "pass" if rule.passed else "fail",
            "level": "none" if rule.passed else "error",
            "message": {"text": f"{rule.sentence()} (model {found.bundle.version})"},
            "locations": [place],
        }
        for rule in found.rules
    ]
    asked = {_identity(rule): {"text": f"{rule.name}: {rule.required}"} for rule in found.rules}
    rules = [{"id": name, "shortDescription": said} for name, said in asked.items()]
    driver = {"name": "hallmark", "rules": rules}
    run = {"tool": {"driver": driver}, "results": results, "properties": {"model": found.bundle.digest}}
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _identity(rule: Rule) -> str:
    """A rule's name without spaces: `robust-accuracy-served-linf-32-all`."""
    return re.sub("[^A-Za-z0-9.]+", "-", rule.name).strip("-")
