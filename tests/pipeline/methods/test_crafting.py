"""The images that multi-step methods train on: where they lie, what made them, and what making them leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.attacks.ascent import gaussian_start, random_start
from pipeline.methods import Batch, Method
from pipeline.methods.method import crafting
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, TinyNetwork, build, clip, cross_entropy, kl_terms

MULTI_STEP = ["pgd_at", "d2r", "d2r_cag"]


def objective(method: Method, batch: Batch, images: Tensor) -> Tensor:
    """What the crafting of each method maximises, by hand, in eval mode."""
    copied = copy.deepcopy(method).eval()
    logits = copied.target(images)
    if method.name == "pgd_at":
        return cross_entropy(logits, batch.labels) * len(batch.labels)
    reference = copied.guide(batch.images) if method.name == "d2r_cag" else copied.target(batch.images)
    return kl_terms(reference.detach(), logits).sum()


def start(method: Method, batch: Batch) -> Tensor:
    if method.name == "pgd_at":
        return random_start(batch.images, THREAT)
    return batch.images + 0.001 * torch.randn(batch.images.shape)


def crafted_by_hand(method: Method, batch: Batch, steps: int) -> Tensor:
    """The loop of METHODS 2.2: everything, the guide's clean output too, is computed anew in each step."""
    images = start(method, batch)
    for _ in range(steps):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(method, batch, images), images)
        images = clip(
            images.detach() + method.settings.relative_step * THREAT.eps * gradient.sign(), batch.images, THREAT.eps
        )
    return images.detach()


@pytest.mark.parametrize("name", MULTI_STEP)
def test_crafting_is_the_loop_written_by_hand(name: str):
    """Same random numbers, same images: keeping the guide's clean output for all steps changes nothing."""
    method, batch = build(name), by_hand.batch()
    torch.manual_seed(11)
    expected = crafted_by_hand(method, batch, 10)
    torch.manual_seed(11)
    found = method.perturb(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("name", MULTI_STEP)
def test_images_lie_in_the_ball_and_in_the_pixel_range(name: str, steps: int):
    method, batch = build(name, steps=steps), by_hand.batch()
    found = method.perturb(batch)
    assert (found - batch.images).abs().max() <= THREAT.eps + 1e-12
    assert found.min() >= 0 and found.max() <= 1
    assert not found.requires_grad
    assert (found - batch.images).abs().max() > 0.2 * THREAT.eps


@pytest.mark.parametrize("name", MULTI_STEP)
def test_crafting_raises_what_it_attacks_above_clean_and_start(name: str):
    method, batch = build(name), by_hand.batch(12)
    torch.manual_seed(2)
    begun = objective(method, batch, start(method, batch))
    torch.manual_seed(2)
    reached = objective(method, batch, method.perturb(batch))
    assert reached > begun
    assert reached > objective(method, batch, batch.images)


def test_gaussian_start_is_not_clipped_and_small():
    images = torch.zeros(50, 1, 4, 4)
    moved = gaussian_start(images)
    assert moved.min() < 0
    assert 0.0009 < moved.std() < 0.0011


def test_uniform_start_fills_the_ball():
    images = torch.full((200, 1, 4, 4), 0.5)
    moved = random_start(images, THREAT) - images
    assert moved.abs().max() <= THREAT.eps + 1e-12
    assert moved.abs().max() > 0.99 * THREAT.eps
    assert moved.abs().mean() == pytest.approx(THREAT.eps / 2, rel=0.05)
    assert random_start(torch.zeros(20, 1, 4, 4), THREAT).min() >= 0


@pytest.mark.parametrize("name", MULTI_STEP)
def test_crafting_leaves_modes_statistics_gradients_and_inputs_alone(name: str):
    method, batch = build(name), by_hand.batch()
    networks = by_hand.networks_of(method)
    networks[-1].eval()  # each network has its own mode to come back to
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [network.training for network in networks]
    state, images = copy.deepcopy(method.state_dict()), batch.images.clone()
    method.perturb(batch)
    assert [network.training for network in networks] == modes
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in state.items())
    assert all(torch.equal(w.grad, torch.ones_like(w)) for w in method.parameters())
    assert torch.equal(batch.images, images) and not batch.images.requires_grad


@pytest.mark.parametrize("name", MULTI_STEP)
def test_modes_come_back_after_an_exception(name: str, monkeypatch: pytest.MonkeyPatch):
    checks.assert_modes_come_back_after_an_exception(build(name), by_hand.batch(), monkeypatch)


def test_crafting_context_gives_each_network_its_own_mode_back():
    one, other = TinyNetwork().train(), TinyNetwork().eval()
    with crafting(one, other):
        assert not one.training and not one.normalisation.training and not other.training
    assert one.training and one.normalisation.training and not other.training


def test_d2r_crafts_from_the_target_alone(monkeypatch: pytest.MonkeyPatch):
    method, batch = build("d2r"), by_hand.batch()
    monkeypatch.setattr(
        method.guide, "forward", lambda images: pytest.fail("the guide has no part in TRADES' generation")
    )
    method.perturb(batch)


def test_d2r_and_cag_craft_different_images():
    torch.manual_seed(1)
    plain = build("d2r")
    torch.manual_seed(1)
    collaborative = build("d2r_cag")
    torch.manual_seed(2)
    one = plain.perturb(by_hand.batch())
    torch.manual_seed(2)
    assert not torch.equal(one, collaborative.perturb(by_hand.batch()))


def with_pretrained_guide(folder: Path, **settings: Any) -> tuple[Method, dict[str, Tensor]]:
    pretrained = TinyNetwork()
    pretrained.normalisation.running_mean.fill_(0.3)
    save_file(pretrained.state_dict(), folder / "guide.safetensors")
    method = build("d2r_cag", guide_init="pretrained", guide_weights=str(folder / "guide.safetensors"), **settings)
    return method, pretrained.state_dict()


def test_a_pretrained_guide_is_fixed_and_in_eval_mode(tmp_path: Path):
    """Neither the optimiser nor BatchNorm's running statistics move it, whatever mode the method is put into."""
    method, weights = with_pretrained_guide(tmp_path)
    batch = by_hand.batch()
    method.train()
    trained = {id(parameter) for parameter in method.trained()}
    assert not trained & {id(parameter) for parameter in method.guide.parameters()}
    assert trained == {id(parameter) for parameter in method.target.parameters()}
    optimiser = torch.optim.SGD(method.trained(), lr=0.1)
    torch.stack(list(method.losses(batch, method.perturb(batch)).values())).sum().backward()
    optimiser.step()
    assert method.target.training and not any(module.training for module in method.guide.modules())
    # build() runs the guide in train mode before method.train(): what counts is that nothing moves afterwards.
    before = copy.deepcopy(method.guide.state_dict())
    torch.stack(list(method.losses(batch, method.perturb(batch)).values())).sum().backward()
    optimiser.step()
    assert all(torch.equal(value, method.guide.state_dict()[key]) for key, value in before.items())
    assert torch.equal(method.guide.linear.weight, weights["linear.weight"])
    assert not method.guide.training


def test_a_guide_file_that_does_not_fit_is_one_sentence(tmp_path: Path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"not weights")
    for name in ("other", "damaged", "absent"):
        with pytest.raises(HallmarkError, match=r"method\.guide_weights: .*holds no weights of network\.guide"):
            build("d2r", guide_init="pretrained", guide_weights=str(tmp_path / f"{name}.safetensors"))


def test_generation_maximises_kl_from_the_reference_not_to_it():
    """One step from the clean image: the sign of the gradient of KL(p_g(x)‖p_t(x')), which the reverse KL does not have."""
    method, batch = build("d2r_cag", steps=1), by_hand.batch(12)
    torch.manual_seed(4)
    noisy = batch.images + 0.001 * torch.randn(batch.images.shape)
    copied = copy.deepcopy(method).eval()
    reference = copied.guide(batch.images).detach()
    moved = {}
    for name, sign in (("forward", 1), ("reverse", -1)):
        point = noisy.clone().requires_grad_()
        logits = copied.target(point)
        value = kl_terms(*((reference, logits)[::sign])).sum()
        (gradient,) = torch.autograd.grad(value, point)
        moved[name] = clip(
            noisy + method.settings.relative_step * THREAT.eps * gradient.sign(), batch.images, THREAT.eps
        )
    torch.manual_seed(4)
    found = method.perturb(batch)
    torch.testing.assert_close(found, moved["forward"], rtol=0, atol=1e-12)
    assert not torch.allclose(found, moved["reverse"])
