"""What the suite's own verdicts say about its attacks: an attack that knows more must find more."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.sanity.item import FAIL_FACTOR, Item, at_most, share_of, slack
from pipeline.evaluation.sanity.measured import Measured

#: PGD-50 and margin PGD against AutoAttack. On honest models the best of both is 0 to 4 points above AutoAttack; where
#: it is 15 above, gradients mislead PGD, and AutoAttack's own gradient attacks are in doubt with it.
GAP_WARN, GAP_FAIL = 0.05, 0.15


def comparisons(measured: Measured) -> Iterator[Item]:
    """Every check that the verdicts at hand allow; images are counted one by one, not by accuracies alone."""
    count = len(measured.clean)
    limits = {"warn": slack(count), "fail": FAIL_FACTOR * slack(count)}
    white = measured.white_box
    if white and "noise" in measured.right:
        yield at_most(
            "white_beats_noise",
            measured.only(white, ["noise"]),
            **limits,
            meaning="share of images that random noise breaks and no attack with gradients does",
        )
    if white and measured.black_box:
        yield at_most(
            "black_box",
            measured.only(white, measured.black_box),
            **limits,
            meaning=f"share of images that {' or '.join(measured.black_box)} breaks, without gradients of the network, "
            "and no attack with them does",
        )
    if longest := measured.longest_pgd:
        yield at_most(
            "converged",
            measured.only([name for name in measured.right if name != longest], [longest]),
            **limits,
            meaning=f"share of images that fall to {longest} and to nothing else",
        )
    yield from _autoattack(measured)


def _autoattack(measured: Measured) -> Iterator[Item]:
    if not measured.autoattack:
        return
    count = len(measured.clean)
    if measured.pgd:
        yield at_most(
            "pgd_vs_autoattack",
            measured.lost(measured.pgd, measured.autoattack),
            warn=share_of(GAP_WARN, count),
            fail=share_of(GAP_FAIL, count),
            meaning="accuracy under PGD and margin above that under AutoAttack",
        )
    yield at_most(
        "autoattack_flags",
        float(len(measured.flags)),
        fail=0.0,
        meaning="warnings that AutoAttack raised about the model",
    )
