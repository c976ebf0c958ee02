"""What a bundle could not hold is said before an attack begins."""

from __future__ import annotations

import pytest
import torch

from bundle import layout as limits
from bundle.errors import HallmarkError
from pipeline.attacks.threat import Threat
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.running import check_planned
from pipeline.evaluation.tiers import Job
from pipeline.evaluation.victim import Victim, draw
from pipeline.params import AttackSettings
from tests.pipeline.evaluation.networks import CLASSES, Linear, split

SETTINGS = AttackSettings(tier="quick", images=20, eps_255=[8.0])


def never(*_: object) -> dict[str, object]:
    raise AssertionError("an attack was run")


def test_the_bounds_are_of_all_sets_together() -> None:
    """Two jobs of three attacks, and the clean images: four sets."""
    jobs = [Job("one", never, {"a": {}, "b": {}}), Job("two", never, {"c": {}})]  # pyright: ignore[reportArgumentType]
    plan = [(Threat("linf", 8), jobs)]
    most = limits.IMAGES_BYTES // (4 * 224 * 224 * 3)
    check_planned((most, 224, 224, 3), plan, corrupted=False)
    for shape, corrupted in (((most + 1, 224, 224, 3), False), ((500_000, 1, 1, 1), True)):
        with pytest.raises(HallmarkError, match=rf"attack\.images: {shape[0]} images under 3 attacks are more than"):
            check_planned(shape, plan, corrupted)


def test_no_attack_is_begun_whose_images_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGES_BYTES", 1000)
    monkeypatch.setattr("pipeline.evaluation.columns.judge_reference", never)
    drawn = draw(split(60), SETTINGS)
    with pytest.raises(HallmarkError, match=r"attack\.images: 20 images under .* take fewer images"):
        gather_evidence(Victim(Linear(), CLASSES), drawn, SETTINGS, device=torch.device("cpu"), say=lambda line: None)
