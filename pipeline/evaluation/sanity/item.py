"""One line of the predicate's `sanity`: a statistic, where it fails, and what came of it."""

from __future__ import annotations

import math
from typing import Any, Literal

Item = dict[str, Any]
Outcome = Literal["pass", "warn", "fail"]

#: A check on few images cannot resolve a share finer than this many of them: random starts move one or two.
SLACK_IMAGES = 2
#: The share that AutoAttack's own warning about Square starts at, and DESIGN's for steps, restarts and black boxes.
SLACK_SHARE = 0.002
#: Five images of 1000: what a check may exceed its slack by before it fails and does not only warn.
FAIL_FACTOR = 2.5


def slack(images: int) -> float:
    """0.2 points, or 2 images where that is more."""
    return max(SLACK_SHARE, SLACK_IMAGES / images)


def share_of(limit: float, images: int) -> float:
    """A limit on a share of `images`, not finer than 2 of them."""
    return max(limit, SLACK_IMAGES / images)


def at_most(check: str, statistic: float, *, fail: float, meaning: str, warn: float | None = None) -> Item:
    """Passes up to `warn` (by default `fail`), warns up to `fail`, fails above; NaN fails."""
    limit = fail if warn is None else warn
    outcome: Outcome = "pass" if statistic <= limit else "warn" if statistic <= fail else "fail"
    return _item(check, statistic, "<=", fail, outcome, _with_limit(meaning, warn, "above"))


def at_least(check: str, statistic: float, *, fail: float, meaning: str, warn: float | None = None) -> Item:
    """Passes from `warn` (by default `fail`) on, warns from `fail` on, fails below; NaN fails."""
    limit = fail if warn is None else warn
    outcome: Outcome = "pass" if statistic >= limit else "warn" if statistic >= fail else "fail"
    return _item(check, statistic, ">=", fail, outcome, _with_limit(meaning, warn, "below"))


def _with_limit(meaning: str, warn: float | None, side: str) -> str:
    return meaning if warn is None else f"{meaning}; a warning {side} {warn:.4g}"


def _item(check: str, statistic: float, comparator: str, threshold: float, outcome: Outcome, meaning: str) -> Item:
    if math.isnan(statistic):
        # JSON has no such number: the first one beyond the threshold stands for it.
        statistic, meaning = threshold + (1 if comparator == "<=" else -1), f"{meaning}; it was no number"
    return {
        "check": check,
        "statistic": float(statistic),
        "comparator": comparator,
        "threshold": float(threshold),
        "outcome": outcome,
        "passed": outcome != "fail",
        "meaning": meaning,
    }
