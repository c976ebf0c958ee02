"""How far float32 arithmetic can be from the real numbers, as a perturbation of every layer.

The float32 network is the real network whose layers each add a small vector d: its value at a layer is W x + b + d,
with x the float32 values before it. Bounds over all admissible d, layer by layer, therefore hold for the real network
(d = 0) and for every float32 evaluation that keeps to the model below.

The model. Each operation rounds once, fl(a op b) = (a op b)(1 + t), |t| <= u = 2^-24, or flushes a result below
2^-126. A value that is a sum of n products is then a sum of the same products, each times at most n + SLACK factors
(1 + t), whatever the order of the sum and with or without fused multiply-add. SLACK covers what else may be rounded:
the variance plus its epsilon, the root, the division, the scale times the weight, the bias, where a BatchNorm is
folded into the convolution before it. With K = n + SLACK and gamma_K = K u / (1 - K u) (Higham, Accuracy and Stability
of Numerical Algorithms, 2002, lemma 3.1),

    |d| <= gamma_K (|W| |x| + |b|) + K 2^-125.

Not covered: convolutions by Winograd or FFT transforms, TF32, and types shorter than float32.

The bounds themselves are computed in float64. Where they compute W c + b, |W| r or a row times W, that is wrong by at
most gamma_K of float64 times the same |W| |x| + |b|, less than 2^-28 of the d that is allowed for anyway; OWN makes
each d larger by 2^-20 of itself, which covers it and the few roundings beside it.
"""

from __future__ import annotations

#: Unit roundoff of float32.
UNIT = 2.0**-24
SLACK = 24
UNDERFLOW = 2.0**-125
#: For the float64 arithmetic of the bounds, as a share of the float32 term.
OWN = 1 + 2.0**-20
#: For sums in float64 of up to 2^20 terms, as a share of the sum of their sizes: gamma of 2^20 terms is 2^-33.
SUMS = 2.0**-32
#: The image on its way in: k/255 and the ball's edge rounded to float32 (a few units in the last place of 1).
INPUT = 2.0**-22

ARITHMETIC = (
    "Holds in real arithmetic and for float32 evaluation with IEEE rounding, sums in any order, with or without fused "
    "multiply-add and with BatchNorm folded; not for Winograd or FFT convolutions, TF32 or shorter types. Bounds are "
    "computed in float64 with an a-priori rounding term in every layer."
)


def gamma(terms: int) -> float:
    """The largest relative error of a sum of `terms` products, each a float32 number times another, times OWN."""
    factors = (terms + SLACK) * UNIT
    return OWN * factors / (1 - factors)


def underflow(terms: int) -> float:
    """What products below float32's normal range can lose in such a sum."""
    return OWN * (terms + SLACK) * UNDERFLOW
