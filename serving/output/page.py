"""The page at /: try an image, then what was measured, the versions, and the routes.

How the numbers went from version to version: the figures over the bundles at hand.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from bundle.bundle import Bundle
from bundle.layout import ENVELOPE
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.pages.figures import Entry, over_versions
from bundle.pages.headline import clean_claim, headline_proof, headline_threat, robust_claim
from bundle.pages.report import STYLE, render_sections
from bundle.pages.wording import INSTALL, data_title, threat_title, trained
from serving.output.versions import MEDIA_TYPES

#: Images are data URIs in the report's sections, and blobs when a reader's own image is shown before it is sent.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: report.html is one file with its style inside; it runs nothing.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
SAMPLES = 10


def _static(name: str) -> bytes:
    return files("serving").joinpath("static", name).read_bytes()


#: Name → content and media type of what the page loads.
ASSETS: dict[str, tuple[bytes, str]] = {
    "report.css": (STYLE.encode(), "text/css; charset=utf-8"),
    "page.css": (_static("page.css"), "text/css; charset=utf-8"),
    **{name: (_static(name), "text/javascript; charset=utf-8") for name in ("page.js", "ask.js", "answer.js")},
}


@dataclass(frozen=True)
class PageSample:
    """A clean image of the evidence: its PNG file, its label's name and its row in the test split."""

    png: bytes
    label: str
    index: int


class Page:
    """The page of one bundle; its sections are rendered once."""

    def __init__(self, bundle: Bundle) -> None:
        self.samples = list(_samples(bundle))
        self._fixed: dict[str, Any] = {
            "predicate": bundle.predicate,
            "evidence": [
                name for name in MEDIA_TYPES if name in bundle.files or (name == ENVELOPE and bundle.envelope)
            ],
            **_numbers(bundle.predicate),
            "version": bundle.version,
            "digest": bundle.digest,
            "install": INSTALL,
            "sections": Markup(render_sections(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images)),
        }

    def render(self, robustness: dict[str, Any], versions: list[dict[str, Any]]) -> str:
        """The page; `robustness` is the document of /robustness, `versions` the list of /versions."""
        return _template().render(
            **self._fixed,
            check=robustness["self_check"],
            trust=robustness["trust"],
            samples=self.samples,
            versions=versions,
            history=[Markup(figure) for figure in history_figures(versions)],
        )


def _numbers(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's first sentence says, all of the file that answers; `proof` is None where nothing was proved."""
    threat = headline_threat(predicate)
    return {
        "threat": threat,
        "clean": clean_claim(predicate, "served"),
        "robust": robust_claim(predicate, "served", threat["name"]),
        "proof": headline_proof(predicate),
    }


def _samples(bundle: Bundle) -> Iterator[PageSample]:
    """The first image of each class in the evidence, SAMPLES at most; none where they are withheld, or PNG cannot hold them."""
    if bundle.evidence == "private" or bundle.predicate["data"]["shape"][2] not in (1, 3):
        return
    labels = bundle.outcomes["label"]
    for label in sorted({int(label) for label in labels})[:SAMPLES]:
        row = int(np.flatnonzero(labels == label)[0])
        yield PageSample(
            _png(bundle.images["clean"][row]), bundle.class_names[label], int(bundle.outcomes["index"][row])
        )


def _png(image: NDArray[np.uint8]) -> bytes:
    """An image uint8 (H, W, 1 or 3) as a PNG file, which keeps every pixel."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("serving"), autoescape=True, trim_blocks=True, undefined=StrictUndefined
    )
    words = {"threat_title": threat_title, "trained": trained, "data_title": data_title}
    cast(Any, environment).filters.update(percent=_percent, robust=_robust, **words)
    return environment.get_template("page.html")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}\u00a0%"


def _robust(version: dict[str, Any], threat: str) -> dict[str, Any] | None:
    """A version's accuracy under every attack of one threat, so that a column of a table is about one thing.

    None where the threat is no main one of that version: it met fewer attacks there.
    """
    if threat not in version["main_threats"]:
        return None
    return find_claim(version, "robust_accuracy", setting="served", threat=threat, attack=ALL_ATTACKS)


#: The name on the axis of the bundle that answers, where it lies in no release folder.
HERE = "here"


def history_figures(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Figures (SVG) over the verified bundles of /versions; [] where there are fewer than two attestations.

    The order is that of the release folders' names, v2 before v10; an attestation has no date.
    """
    entries = [Entry(label, item["headline"]) for label, item in _ordered(versions)]
    return list(over_versions(entries)) if len(entries) > 1 else []


def _ordered(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Each release with its folder's name, then the bundle that answers where it is none of them."""
    verified = [item for item in versions if item["verified"]]
    releases = sorted((item for item in verified if not item["served"]), key=lambda item: _natural(item["folder"]))
    known = {item["attestation_sha256"] for item in releases}
    others = [item for item in verified if item["served"] and item["attestation_sha256"] not in known]
    return [*((item["folder"], item) for item in releases), *((HERE, item) for item in others)]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which numbers within names sort as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
