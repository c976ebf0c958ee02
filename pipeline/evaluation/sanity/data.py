"""Whether test images were seen before, or have two labels: numbers about images that leaked are about memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bundle.leakage import LEAKS, leaked_shares
from pipeline.evaluation.sanity.item import Item, at_most

#: A leak of one per cent moves an accuracy by up to a point. Plain pictures resemble each other without a leak, so that
#: look-alikes fail only where they are the rule.
LIMITS = {"copies": (0.0, 0.01), "near_copies": (0.01, 0.5), "two_labels": (0.0, 0.01)}


def data_checks(data: Mapping[str, Any]) -> Iterator[Item]:
    """The checks that the counts of the predicate's `data` allow."""
    for leak, share in leaked_shares(data.get("leakage", {}), data["splits"]).items():
        warn, fail = LIMITS[leak]
        yield at_most(leak, share, warn=warn, fail=fail, meaning=f"share of {LEAKS[leak]}")
