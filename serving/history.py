"""How the numbers went from version to version: the figures over the bundles at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bundle.figures import Entry, over_versions

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
