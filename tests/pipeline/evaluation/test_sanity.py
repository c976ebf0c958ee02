"""Each check passes an honest network and fails what it is there for; the verdicts of the suite are read, not redone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity import Measured, fingerprint, large_threat, sanity_checks
from pipeline.evaluation.sanity.effort import comparisons
from pipeline.evaluation.sanity.measured import at_least, at_most, slack
from pipeline.evaluation.victim import Sample, Victim
from tests.pipeline.evaluation.measuring import checked, measure
from tests.pipeline.evaluation.networks import CLASSES, Linear, split

QUICK = {
    "deterministic",
    "clean_accuracy_same",
    "weights_same",
    "gradients",
    "saturated",
    "white_beats_noise",
    "converged",
    "many_steps_beat_one",
    "catastrophic_overfitting",
    "large_eps",
}
STANDARD = QUICK | {"more_steps", "temperature", "planted"}
THREAT = Threat("linf", 16)


class Rounded(Linear):
    """Rounded inputs give no gradient: PGD finds nothing, not even at 128/255."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images * 4).round() / 4)


def sample(count: int = 60) -> Sample:
    drawn = split(count)
    return Sample(
        torch.from_numpy(drawn.images).permute(0, 3, 1, 2) / 255, torch.from_numpy(drawn.labels), torch.arange(count)
    )


def checks(network: nn.Module, threat: Threat = THREAT, tier: str = "quick", **others: Measured) -> dict[str, dict]:
    return checked(network.eval(), sample(), threat, tier=tier, classes=CLASSES, **others)


def failed(network: nn.Module) -> set[str]:
    return {name for name, item in checks(network).items() if not item["passed"]}


@pytest.mark.parametrize(("tier", "expected"), [("quick", QUICK), ("standard", STANDARD), ("thorough", STANDARD)])
def test_an_honest_network_passes_what_the_tier_runs(tier: str, expected: set[str]):
    found = checks(Linear(), tier=tier)
    assert set(found) == expected
    # Its logits come from no nn.Linear, so that nothing can be planted; that is said, and fails nothing.
    unsure = {name for name, item in found.items() if item["outcome"] != "pass"}
    assert unsure == ({"planted"} if tier != "quick" else set())
    assert found["deterministic"]["statistic"] == 0.0 and found["gradients"]["statistic"] == 0.0


@pytest.mark.parametrize("threat", [Threat("l2", 0.3), Threat("l1", 1.0)])
def test_the_checks_are_those_of_the_threats_norm(threat: Threat):
    """The large ball is the one around l∞'s: 4x4 pixels at 128/255 have an l2 norm of 2.008 and an l1 norm of 8.031."""
    found = checks(Linear(), threat)
    assert all(item["passed"] for item in found.values())
    size = {"l2": "l2 eps 2.008", "l1": "l1 eps 8.031"}[threat.norm]
    assert found["large_eps"]["meaning"] == f"accuracy under attack at {size}"
    assert large_threat(threat.norm, 16).norm == threat.norm
    assert not checks(Rounded(), threat)["large_eps"]["passed"]


def test_every_check_says_how_it_is_judged_and_of_which_ball():
    """`passed` and `threshold` agree, whatever the outcome, and only what is about the network names no ball."""
    for network in (Linear(), Linear(1e4), Rounded(), Linear(noise=0.1)):
        for name, item in checks(network, tier="standard").items():
            inside = {"<=": item["statistic"] <= item["threshold"], ">=": item["statistic"] >= item["threshold"]}
            assert item["passed"] == inside[item["comparator"]] == (item["outcome"] != "fail")
            about_the_network = {"deterministic", "clean_accuracy_same", "weights_same", "gradients", "saturated"}
            assert item.get("threat") == (None if name in about_the_network else "linf-16")


@pytest.mark.parametrize(("statistic", "outcome"), [(0.1, "pass"), (0.2, "warn"), (0.3, "warn"), (0.4, "fail")])
def test_between_its_own_limit_and_the_threshold_a_check_warns(statistic: float, outcome: str):
    assert at_most("c", statistic, warn=0.1, fail=0.3, meaning="m")["outcome"] == outcome
    assert at_least("c", -statistic, warn=-0.1, fail=-0.3, meaning="m")["outcome"] == outcome


def test_what_is_not_a_number_fails():
    assert at_most("c", float("nan"), fail=1.0, meaning="m")["outcome"] == "fail"
    assert at_least("c", float("nan"), fail=0.0, meaning="m")["outcome"] == "fail"


def test_the_slack_is_two_images_or_two_tenths_of_a_point():
    assert [slack(count) for count in (100, 200, 1000, 10000)] == [0.02, 0.01, 0.002, 0.002]


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_saturated_logits_have_no_gradient_and_the_scale_hides_what_pgd_would_find(scale: float):
    found = checks(Linear(scale), tier="standard")
    assert {"gradients", "temperature"} <= {name for name, item in found.items() if not item["passed"]}
    assert found["saturated"]["outcome"] == "warn"


def test_a_noisy_network_is_not_deterministic():
    assert "deterministic" in failed(Linear(noise=0.1))
    assert "deterministic" not in failed(Linear())


def test_a_network_that_no_ball_breaks_is_not_believed():
    assert {"gradients", "large_eps"} <= failed(Rounded())


class Backwards(torch.autograd.Function):
    """The identity, with gradients that point the wrong way."""

    @staticmethod
    def forward(context: object, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return -gradient


def test_attacks_that_are_weaker_than_noise_are_found_out():
    class Misleading(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(Backwards.apply(images))

    found = checks(Misleading(), Threat("linf", 48), tier="standard")
    assert not found["large_eps"]["passed"] and found["white_beats_noise"]["statistic"] > 0.0


def test_a_network_that_the_attacks_changed_is_found_out():
    """The weights moved, and with them verdicts: what was measured before is about another network."""
    network = Linear().eval()
    before = measure(network, sample(), THREAT)
    with torch.no_grad():
        network.weight.mul_(1 + 1e-7)
    scaled = checks(network, measured=before)
    assert not scaled["weights_same"]["passed"] and scaled["clean_accuracy_same"]["passed"]
    with torch.no_grad():
        network.weight.copy_(network.weight.flip(0))
    assert not checks(network, measured=before)["clean_accuracy_same"]["passed"]


def test_a_fingerprint_covers_every_weight_and_statistic():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    first = fingerprint(network)
    assert fingerprint(network) == first
    network.train()(torch.rand(4, 1, 5, 5))
    assert fingerprint(network) != first, "BatchNorm's statistics moved"


COUNT = 1000
STANDS = np.ones(COUNT, dtype=bool)


def broken(*images: range) -> np.ndarray:
    right = STANDS.copy()
    for rows in images:
        right[list(rows)] = False
    return right


def compared(right: dict[str, np.ndarray], flags: tuple[str, ...] = ()) -> dict[str, dict]:
    return {item["check"]: item for item in comparisons(Measured(STANDS, right, flags))}


HONEST = {
    "noise": broken(range(10)),
    "fgsm": broken(range(100)),
    "pgd-20": broken(range(150)),
    "pgd-50": broken(range(151)),
    "margin": broken(range(10, 160)),
    "autoattack": broken(range(180)),
    "transfer-guide": broken(range(60)),
    "square-onnx": broken(range(40)),
}


def test_verdicts_of_an_honest_model_pass():
    found = compared(HONEST)
    assert {item["outcome"] for item in found.values()} == {"pass"}
    assert set(found) == {"white_beats_noise", "black_box", "converged", "pgd_vs_autoattack", "autoattack_flags"}


@pytest.mark.parametrize(
    ("check", "attack", "at_limit", "beyond", "failing"),
    [
        ("white_beats_noise", "noise", range(998, 1000), range(997, 1000), range(990, 1000)),
        ("black_box", "transfer-guide", range(998, 1000), range(997, 1000), range(990, 1000)),
        ("black_box", "square-onnx", range(998, 1000), range(997, 1000), range(990, 1000)),
        ("converged", "pgd-50", range(998, 1000), range(997, 1000), range(990, 1000)),
    ],
)
def test_two_images_in_a_thousand_pass_three_warn_ten_fail(
    check: str, attack: str, at_limit: range, beyond: range, failing: range
):
    """Images that only this attack breaks, whatever the accuracies: others of the same number would hide them."""
    outcome = [compared(HONEST | {attack: broken(rows)})[check]["outcome"] for rows in (at_limit, beyond, failing)]
    assert outcome == ["pass", "warn", "fail"]


@pytest.mark.parametrize(("more", "outcome"), [(40, "pass"), (60, "warn"), (160, "fail")])
def test_the_gap_between_pgd_and_autoattack(more: int, outcome: str):
    found = compared(HONEST | {"autoattack": broken(range(160 + more))})["pgd_vs_autoattack"]
    assert found["statistic"] == more / COUNT and found["outcome"] == outcome


def test_one_warning_of_autoattack_fails():
    assert not compared(HONEST, ("the loss has no gradient",))["autoattack_flags"]["passed"]


def test_images_that_were_wrong_before_the_attack_are_no_success_of_it():
    clean = broken(range(990, 1000))
    wrong = Measured(clean, HONEST | {"noise": clean})
    assert {item["check"]: item["statistic"] for item in comparisons(wrong)}["white_beats_noise"] == 0.0


def test_what_was_not_run_is_not_judged():
    assert compared({}) == {} and set(compared({"pgd-50": STANDS})) == set()


def test_one_step_that_beats_pgd_is_found_out():
    """PGD that never moved: the verdicts say that it breaks nothing, and one step does."""
    network, part = Linear().eval(), sample()
    honest = measure(network, part, THREAT)
    nothing = {name: honest.clean for name in honest.right if name.startswith("pgd") or name == "margin"}
    lame = replace(honest, right={**honest.right, **nothing})
    assert checks(network, measured=honest)["many_steps_beat_one"]["passed"]
    assert not checks(network, measured=lame)["many_steps_beat_one"]["passed"]


def test_images_that_stood_and_fall_to_more_steps_are_counted():
    """Verdicts that call every image right are contradicted by the check's own attack."""
    network, part = Linear().eval(), sample()
    honest = measure(network, part, THREAT)
    lame = Measured(honest.clean, {"pgd-50": honest.clean, "margin": honest.clean})
    item = checks(network, tier="standard", measured=lame)["more_steps"]
    assert not item["passed"]
    assert item["statistic"] == pytest.approx(
        float((honest.clean & ~honest.under(["margin"])).mean()), abs=2 / len(part)
    )


def test_kept_items_are_not_computed_again():
    network, part = Linear().eval(), sample()
    store: dict[str, list[dict]] = {}

    def keep(key: str, compute: Callable[[], list[dict]]) -> list[dict]:
        if key not in store:
            store[key] = compute()
        return store[key]

    def run(victim: nn.Module, measured: Measured) -> list[dict]:
        return sanity_checks(Victim(victim, CLASSES), part, THREAT, measured, seed=0, tier="standard", keep=keep)

    def refuses(images: Tensor) -> Tensor:
        raise AssertionError("attacked again")

    measured = measure(network, part, THREAT)
    first = run(network, measured)
    network.forward = refuses  # type: ignore[method-assign]
    assert [item["check"] for item in run(network, measured)] == [item["check"] for item in first]


def test_nothing_is_left_behind():
    network, part = Linear().eval(), sample()
    images, state = part.images.clone(), torch.get_rng_state()
    checked(network, part, THREAT, classes=CLASSES)
    assert torch.equal(part.images, images) and torch.equal(torch.get_rng_state(), state)
    assert network.weight.grad is None and not part.images.requires_grad
