"""What an evaluation will leave, held against what a bundle may hold: said before hours of attack."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.corruptions import NAMES
from bundle.errors import HallmarkError
from bundle.layout import check_sets
from bundle.table.columns import check_extent
from pipeline.attacks.threat import Threat
from pipeline.evaluation.tiers import Job


def check_planned(shape: tuple[int, ...], plan: Sequence[tuple[Threat, Sequence[Job]]], corrupted: bool) -> None:
    """Raises HallmarkError where the images (N, H, W, C) of all jobs, or their table, would be more than a bundle holds.

    What certify adds to the table is not known here; assemble() counts it too.
    """
    attacks = [{"threat": threat.name, "name": name} for threat, jobs in plan for job in jobs for name in job.settings]
    corruptions = {"names": NAMES} if corrupted else None
    planned = {"sample": {"size": shape[0]}, "attacks": attacks, "corruptions": corruptions}
    try:
        check_sets(1 + len(attacks), shape)
        check_extent({**planned, "distances": [], "smoothing": [], "proofs": []})
    except HallmarkError as error:
        said = f"{shape[0]} images under {len(attacks)} attacks are more than a bundle may hold"
        raise HallmarkError(f"attack.images: {said} ({error}); take fewer images, threats or a smaller tier") from None
