"""Exact binomial intervals."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from functools import lru_cache
from math import comb

from scipy.stats import beta

CONFIDENCE = 0.95
#: The largest acceptable chance that a challenge misses every false row.
RISK = (1, 20)


@lru_cache(maxsize=4096)  # an attestation asks for hundreds, and few are different
def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of a share.

    Parameters: `successes` out of `trials` (0 ≤ successes ≤ trials, trials ≥ 1), `confidence` in (0, 1).
    Returns (lower, upper), each in [0, 1]. Raises ValueError for counts that cannot be.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must be 0 to trials, and trials at least 1, got {successes} of {trials}")
    tail = (1 - confidence) / 2
    lower = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    upper = 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return lower, upper


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson lower bound at confidence 1 − alpha; the share is below it with chance ≤ alpha."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must be 0 to trials, and trials at least 1, got {successes} of {trials}")
    return 0.0 if successes == 0 else float(beta.ppf(alpha, successes, trials - successes + 1))


def most_false(size: int, opened: int) -> int:
    """The largest number of false rows among `size` that `opened` true ones, drawn without replacement, leave open.

    That is the largest d for which drawing none of d false rows has a chance of more than 5 %: hypergeometric,
    C(size - d, opened) / C(size, opened) > 1/20, in whole numbers. With 95 % confidence no more rows are false.
    """
    fewest, most = 0, size - opened
    limit, (numerator, denominator) = comb(size, opened), RISK
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if comb(size - middle, opened) * denominator > limit * numerator:
            fewest = middle
        else:
            most = middle - 1
    return fewest
