"""Each check passes an honest network and fails the network that it is there for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity import sanity_checks
from pipeline.evaluation.suite import Sample
from pipeline.params import AttackSettings
from tests.pipeline.evaluation.networks import Linear, split

CHECKS = {"deterministic", "gradients", "large_eps", "more_steps", "white_beats_noise"}
SETTINGS = AttackSettings(eps_255=[16.0])
THREAT = Threat("linf", 16)


def sample(count: int = 60) -> Sample:
    drawn = split(count)
    return Sample(
        torch.from_numpy(drawn.images).permute(0, 3, 1, 2) / 255, torch.from_numpy(drawn.labels), torch.arange(count)
    )


def checks(network: nn.Module, part: Sample | None = None, threat: Threat = THREAT) -> dict[str, dict]:
    found = sanity_checks(network.eval(), part or sample(), threat, SETTINGS)
    return {item["check"]: item for item in found}


def failed(network: nn.Module) -> set[str]:
    return {name for name, item in checks(network).items() if not item["passed"]}


def test_an_honest_network_passes_all():
    found = checks(Linear())
    assert set(found) >= CHECKS
    assert all(item["passed"] for item in found.values())
    assert found["deterministic"]["statistic"] == 0.0 and found["gradients"]["statistic"] == 0.0


@pytest.mark.parametrize("threat", [Threat("l2", 0.3), Threat("l1", 1.0)])
def test_the_checks_are_those_of_the_threats_norm(threat: Threat):
    """The large ball is the one around l∞'s: 4x4 pixels at 128/255 have an l2 norm of 2.008 and an l1 norm of 8.031."""
    found = checks(Linear(), threat=threat)
    assert all(item["passed"] for item in found.values())
    size = {"l2": "l2 eps 2.008", "l1": "l1 eps 8.031"}[threat.norm]
    assert found["large_eps"]["meaning"] == f"accuracy under attack at {size}"

    class Rounded(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * 4).round() / 4)

    assert not checks(Rounded(), threat=threat)["large_eps"]["passed"]


def test_every_check_says_how_it_is_judged():
    for item in checks(Linear()).values():
        assert item["comparator"] == "<=" and item["meaning"]
        assert item["passed"] == (item["statistic"] <= item["threshold"])


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_saturated_logits_have_no_gradient(scale: float):
    assert "gradients" in failed(Linear(scale))


def test_a_noisy_network_is_not_deterministic():
    assert "deterministic" in failed(Linear(noise=0.1))
    assert "deterministic" not in failed(Linear())


def test_a_network_that_no_ball_breaks_is_not_believed():
    """Rounded inputs give no gradient: PGD finds nothing, not even at 128/255 or below what noise finds."""

    class Rounded(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * 4).round() / 4)

    assert {"gradients", "large_eps"} <= failed(Rounded())


def test_pgd_that_is_weaker_than_noise_is_found_out():
    """Gradients that point the wrong way make the attack worse than random noise."""
    part = sample()

    class Backwards(torch.autograd.Function):
        @staticmethod
        def forward(context: object, images: Tensor) -> Tensor:
            return images.clone()

        @staticmethod
        def backward(context: object, gradient: Tensor) -> Tensor:
            return -gradient

    class Misleading(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(Backwards.apply(images))

    honest, misleading = checks(Linear(), part), checks(Misleading(), part)
    assert not misleading["large_eps"]["passed"]
    assert misleading["white_beats_noise"]["statistic"] > honest["white_beats_noise"]["statistic"]


def test_nothing_is_left_behind():
    network, part = Linear().eval(), sample()
    images, state = part.images.clone(), torch.get_rng_state()
    checks(network, part)
    assert torch.equal(part.images, images) and torch.equal(torch.get_rng_state(), state)
    assert network.weight.grad is None and not part.images.requires_grad
