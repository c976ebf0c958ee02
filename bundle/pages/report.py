"""report.html: one self-contained page that a person reads, and its sections for a page with a header of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from bundle.attestation import model_version
from bundle.pages import figures, headline, tables
from bundle.pages.gallery import choose
from bundle.pages.plots import plots
from bundle.pages.wording import FILTERS, TIERS, environment, leaves, sample_scope, signed, threat_name_title
from bundle.table.outcomes import Outcomes

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
    outcomes, images : the outcome table and the arrays of images.npz; with private evidence there are none, and no
        image is shown.
    """
    sections = render_sections(predicate, digest, outcomes, images)
    return _page("report.html").render(
        predicate=predicate, version=model_version(digest), digest=digest, style=STYLE, sections=sections
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
        rows=tables.result_rows(predicate, shown),
        unions=tables.union_rows(predicate),
        sweep=tables.sweep_rows(predicate),
        plots=list(plots(predicate, threat, outcomes)),
        gallery=choose(predicate, outcomes, images) if images else None,
        worst=tables.worst_rows(predicate),
        calibration=tables.calibration_rows(predicate),
        corruptions=tables.corruption_rows(predicate),
        agreement=tables.agreement_rows(predicate),
        bounds=tables.bound_rows(predicate),
        proofs=tables.proof_rows(predicate),
        brackets=tables.bracket_rows(predicate),
        average_radii=[bound for bound in predicate["bounds"] if bound["metric"] == "average_certified_radius"],
        settings=list(leaves(predicate["parameters"])),
        environment=list(leaves(environment(predicate))),
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
    bound = headline.headline_bound(predicate)
    return {
        "clean": (clean, figures.strip(clean, figures.SERVED)),
        "robust": (robust, figures.strip(robust, figures.SERVED)),
        "certified": bound and (bound, figures.strip(bound, figures.CERTIFIED)),
    }


def _facts(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the second rank, all of the served setting; what was not measured is None."""
    return {
        "worst": headline.worst_class(predicate, "served", threat["name"]),
        "calibration": [headline.calibration(predicate, "served", name) for name in (None, threat["name"])],
        "corruptions": headline.corruption_mean(predicate),
    }
