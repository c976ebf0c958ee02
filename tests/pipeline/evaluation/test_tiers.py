"""What each tier runs, and how further attacks are plugged in."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import torch
from torch import Tensor

from bundle.errors import HallmarkError
from bundle.table.threats import Threat
from pipeline.attacks.pgd import margin_pgd
from pipeline.evaluation import tiers as module
from pipeline.evaluation.tiers import core_jobs, jobs
from pipeline.evaluation.victim import Sample, Victim
from pipeline.networks import build_network
from pipeline.params import AttackSettings
from pipeline.run.cache import uncached
from tests.pipeline.evaluation.networks import CLASSES, Linear, split

THREAT = Threat("linf", 8)
#: How the margin attack of a tier searches.
SEARCH = {
    "threat": THREAT,
    "seed": 0,
    "restarts": 1,
    "relative_step": module.RELATIVE_STEP,
    "steps": module.MARGIN_STEPS,
}
QUICK = ["noise", "pgd-10", "pgd-20", "pgd-50", "margin"]
STANDARD = ["noise", "fgsm", "pgd-10", "pgd-20", "pgd-50", "margin"]


def names(victim: Victim, norm: str = "linf", **settings: object) -> list[str]:
    threat, chosen = Threat(norm, 8), AttackSettings(eps_255=[8.0], **settings)  # type: ignore[arg-type]
    return [name for job in jobs(victim, threat, chosen, 4, lambda line: None) for name in job.settings]


def test_each_tier_runs_more_than_the_one_before():
    alone = Victim(Linear(), CLASSES)
    taught = Victim(Linear(), CLASSES, {"guide": Linear(), "peer_1": Linear()}, b"model.onnx")
    assert names(alone, tier="quick") == names(taught, tier="quick") == QUICK
    assert names(alone, tier="standard") == [*STANDARD, "autoattack"]
    extra = ["transfer-guide", "transfer-peer_1", "adaptive", "square-onnx"]
    assert names(taught, tier="standard") == [*STANDARD, *extra, "autoattack"]
    carried = Victim(Linear(), CLASSES, {"013e0c946609": Linear()})
    assert names(carried, tier="standard") == [*STANDARD, "transfer-013e0c946609", "autoattack"]
    seeds = ["autoattack", "autoattack-plus", "autoattack-seed-8", "autoattack-seed-9"]
    assert names(taught, tier="thorough", seed=7) == [*STANDARD, "pgd-100", *extra, *seeds]
    assert "cw" in names(taught, "l2", tier="thorough") and "cw" not in names(taught, "l2", tier="standard")


def test_methods_are_compared_by_the_same_attacks_whatever_they_train_beside():
    taught = Victim(Linear(), CLASSES, {"guide": Linear()}, b"model.onnx")
    for tier in ("standard", "thorough"):
        work = core_jobs(taught, Threat("linf", 8), AttackSettings(tier=tier), 4, lambda line: None)
        assert [name for job in work for name in job.settings] == [*QUICK[1:], "autoattack"]


def leap(model, images: Tensor, labels: Tensor, *, threat: Threat, seed: int, index: Tensor) -> Tensor:
    """A plug-in that leaves the ball."""
    return 1 - images


def test_an_entry_point_is_an_attack_and_is_held_to_the_ball(monkeypatch: pytest.MonkeyPatch):
    plugin = EntryPoint("leap", f"{__name__}:leap", module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [plugin] if group == module.GROUP else [])
    victim, threat = Victim(Linear(), CLASSES), Threat("linf", 8)
    job = jobs(victim, threat, AttackSettings(tier="quick", plugins=["leap"]), 4, lambda line: None)[-1]
    given = split(5)
    images = torch.from_numpy(given.images).permute(0, 3, 1, 2) / 255
    found = job.run(Sample(images, torch.from_numpy(given.labels), torch.arange(5)), uncached)
    assert (found["leap"].images - images).abs().max() <= threat.eps + 1e-6 and not torch.equal(
        found["leap"].images, images
    )
    assert job.settings == {"leap": {"entryPoint": f"{__name__}:leap", "seed": 0}}
    with pytest.raises(HallmarkError, match=r"attack.plugins: jump: is no entry point .* installed: leap"):
        jobs(victim, threat, AttackSettings(tier="quick", plugins=["jump"]), 4, lambda line: None)


def test_the_attacks_that_come_with_the_package_are_found_by_name():
    chosen = AttackSettings(tier="quick", plugins=["autoattack-rand", "apgd-ce", "apgd-t", "fab-t", "square"])
    victim, threat = Victim(Linear(), CLASSES), Threat("linf", 60)
    given = split(3)
    images = torch.from_numpy(given.images).permute(0, 3, 1, 2) / 255
    sample = Sample(images, torch.from_numpy(given.labels), torch.arange(3))
    work = jobs(victim, threat, chosen, 4, lambda line: None)[-5:]
    assert [job.name for job in work] == chosen.plugins
    for job in work[:2]:
        found = job.run(sample, uncached)[job.name].images
        assert (victim.network(found).argmax(1) != sample.labels).all(), "nothing stands in so large a ball"


@pytest.mark.parametrize(("side", "folds"), [(32, True), (8, False)])
def test_images_are_crafted_against_folded_networks_where_that_pays_off(side: int, folds: bool) -> None:
    """In float64, where folding moves no sign: the same images; outside of a job the network is as it was."""
    torch.manual_seed(0)
    network, plain = (build_network("resnet8", classes=3, channels=1, width=4).double().eval() for _ in range(2))
    plain.load_state_dict(network.state_dict())
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    passed: list[bool] = []
    norm.register_forward_hook(lambda module, inputs, output: passed.append(output is inputs[0]))
    images = torch.rand(4, 1, side, side, dtype=torch.float64)
    sample = Sample(images, torch.arange(4) % 3, torch.arange(4))
    job = jobs(Victim(network, 3), THREAT, AttackSettings(tier="quick"), side, lambda line: None)[2]
    found = job.run(sample, uncached)["margin"].images
    assert passed and all(passed) is folds and any(passed) is folds
    torch.testing.assert_close(found, margin_pgd(plain, images, sample.labels, **SEARCH, index=sample.index))
    network(images)
    assert passed[-1] is False
