"""The page at /: try an image, then what was measured, the versions, and the routes."""

from __future__ import annotations

import io
from collections.abc import Iterator
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
from bundle.claims import ALL_ATTACKS, find_claim
from bundle.headline import headline_threat
from bundle.layout import ENVELOPE
from bundle.report import STYLE, render_sections
from bundle.wording import threat_title, trained
from serving.evidence import MEDIA_TYPES
from serving.history import history_figures

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
class Sample:
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
            "threat": headline_threat(bundle.predicate),
            "version": bundle.version,
            "digest": bundle.digest,
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


def _samples(bundle: Bundle) -> Iterator[Sample]:
    """The first image of each class in the evidence, SAMPLES at most; none where they are withheld, or PNG cannot hold them."""
    if bundle.evidence == "private" or bundle.predicate["data"]["shape"][2] not in (1, 3):
        return
    labels = bundle.outcomes["label"]
    for label in sorted({int(label) for label in labels})[:SAMPLES]:
        row = int(np.flatnonzero(labels == label)[0])
        yield Sample(_png(bundle.images["clean"][row]), bundle.class_names[label], int(bundle.outcomes["index"][row]))


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
    cast(Any, environment).filters.update(percent=_percent, robust=_robust, threat_title=threat_title, trained=trained)
    return environment.get_template("page.html")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _robust(version: dict[str, Any], threat: str) -> dict[str, Any] | None:
    """A version's accuracy under every attack of one threat, so that a column of a table is about one thing.

    None where the threat is no main one of that version: it met fewer attacks there.
    """
    if threat not in version["main_threats"]:
        return None
    return find_claim(version, "robust_accuracy", setting="served", threat=threat, attack=ALL_ATTACKS)
