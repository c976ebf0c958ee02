"""The report's figures: pure functions from claims and columns to SVG, drawn to be read by anyone; one file per family.

Accuracies run from 0 to 100 % on every axis, whiskers and bands are 95 % Clopper-Pearson intervals, settings differ in
shape as well as in colour, and each figure says its numbers in words for those who cannot see it.
"""

from bundle.pages.figures.accuracy import (
    CLASSES_SHOWN,
    HEAT_MAP_CLASSES,
    PAIRS_SHOWN,
    ClassAccuracy,
    accuracy_of,
    by_attack,
    by_class,
    confusion,
    most_confused,
    say,
    strip,
)
from bundle.pages.figures.curves import VERSIONS_HEIGHT, Certified, Entry, by_eps, certified_curve, over_versions
from bundle.pages.figures.margins import BANDS, Bin, band_of, bins_of, margin_histogram, reliability, surface
from bundle.pages.figures.training import training
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
    "ClassAccuracy",
    "Entry",
    "accuracy_of",
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
    "strip",
    "surface",
    "training",
]
