"""Checks that a robustness number must pass before it is believed: each a statistic, a threshold, and what it means.

After Carlini et al. 2019 (arXiv 1902.06705), Zimmermann et al. 2022 (arXiv 2206.13991) and the warnings of AutoAttack.
They judge shares, not single images: random starts move a few images on honest models. What needs the data's record or the
outcome table alone (sanity.data, sanity.answers) is judged where the predicate is collected.
"""

from pipeline.evaluation.sanity.checks import sanity_checks
from pipeline.evaluation.sanity.effort import large_threat
from pipeline.evaluation.sanity.measured import Measured, fingerprint

__all__ = ["Measured", "fingerprint", "large_threat", "sanity_checks"]
