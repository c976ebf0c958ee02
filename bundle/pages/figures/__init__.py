"""The report's figures: pure functions from claims and columns to SVG, drawn to be read by anyone; a family a file.

Shares run from 0 to 100 % on every axis, whiskers and bands are 95 % Clopper-Pearson intervals, settings differ in
shape as well as in colour, and each figure says its numbers in words for those who cannot see it.
"""

from bundle.pages.figures.classes import (
    CLASSES_SHOWN,
    HEAT_MAP_CLASSES,
    PAIRS_SHOWN,
    ClassShare,
    by_class,
    confusion,
    most_confused,
)
from bundle.pages.figures.margins import Bin, bins_of, margin_histogram, reliability
from bundle.pages.figures.radii import Certified, by_eps, certified_curve
from bundle.pages.figures.shares import by_attack, say, share_of, strip
from bundle.pages.figures.surface import BANDS, band_of, surface
from bundle.pages.figures.versions import VERSIONS_HEIGHT, Entry, over_versions
from bundle.pages.svg import CERTIFIED, REFERENCE, SERVED

__all__ = [
    "BANDS",
    "CERTIFIED",
    "CLASSES_SHOWN",
    "HEAT_MAP_CLASSES",
    "PAIRS_SHOWN",
    "REFERENCE",
    "SERVED",
    "VERSIONS_HEIGHT",
    "Bin",
    "Certified",
    "ClassShare",
    "Entry",
    "band_of",
    "bins_of",
    "by_attack",
    "by_class",
    "by_eps",
    "certified_curve",
    "confusion",
    "margin_histogram",
    "most_confused",
    "over_versions",
    "reliability",
    "say",
    "share_of",
    "strip",
    "surface",
]
