"""Training with noise: its images and losses against the papers' formulas, and going on from given weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.methods import Batch, Method
from pipeline.params import ParamsError
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import TinyNetwork, assert_same_loss, build, cross_entropy, p

NAMES = ["gaussian_noise", "smooth_adv"]


def test_images_are_the_batch_with_noise_of_the_stated_deviation_not_clamped():
    method, batch = build("gaussian_noise", sigma=0.5), by_hand.batch(400)
    images = method.perturb(batch)
    noise = images - batch.images
    assert noise.std().item() == pytest.approx(0.5, rel=0.05) and abs(noise.mean().item()) < 0.03
    assert images.min() < -0.5 and images.max() > 1.5
    assert not images.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_drawn_anew_in_every_step(name: str):
    method, batch = build(name), by_hand.batch()
    assert (method.perturb(batch) - method.perturb(batch)).abs().max() > 0.1


def test_the_loss_of_noise_is_cross_entropy_on_the_noisy_images():
    batch = by_hand.batch()
    images = batch.images + torch.randn_like(batch.images)

    def expected(method: Method) -> Tensor:
        return cross_entropy(method.target(images), batch.labels)

    assert_same_loss(build("gaussian_noise"), expected, checks.total(batch, images))


def test_the_loss_of_smooth_adv_is_the_mean_over_its_draws():
    """Each draw is a pass of its own, in train mode: BatchNorm sees one draw at a time."""
    batch = by_hand.batch()
    draws = [batch.images + torch.randn_like(batch.images) for _ in range(3)]

    def expected(method: Method) -> Tensor:
        return sum(cross_entropy(method.target(images), batch.labels) for images in draws) / 3

    method = build("smooth_adv", draws=3)
    assert_same_loss(method, expected, checks.total(batch, torch.cat(draws)))
    assert torch.equal(method.attacked(torch.cat(draws)), draws[0])


def smoothed_loss(method: Method, batch: Batch, images: Tensor, noise: list[Tensor]) -> Tensor:
    """Σ −log mean_i p_y(x + n_i), in eval mode (Salman et al. 2019, equation 5)."""
    network = copy.deepcopy(method.target).eval()
    mean = sum(p(network(images + one)) for one in noise) / len(noise)
    return -sum(mean[row, label].log() for row, label in enumerate(batch.labels.tolist()))


def test_smooth_adv_is_pgd_on_the_smoothed_classifier_written_by_hand():
    """Same draws in every step and in the loss; a step along the l2-normalised gradient, back into ball and box."""
    method, batch = build("smooth_adv", eps_l2=0.3, draws=2, steps=4, sigma=0.5), by_hand.batch()
    batch = replace(batch, images=0.3 + 0.4 * batch.images)  # far from 0 and 1: the box does not bite
    torch.manual_seed(5)
    noise = [0.5 * torch.randn_like(batch.images) for _ in range(2)]
    images = batch.images
    for _ in range(4):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(smoothed_loss(method, batch, images, noise), images)
        move = images.detach() + 0.2 * 0.3 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
        change = move - batch.images
        images = batch.images + change * (0.3 / change.flatten(1).norm(dim=1)).clamp(max=1)[:, None, None, None]
    torch.manual_seed(5)
    found = method.perturb(batch)
    torch.testing.assert_close(found, torch.cat([images.detach() + one for one in noise]), rtol=0, atol=1e-9)


def test_smooth_adv_stays_in_ball_and_box_and_raises_the_smoothed_loss():
    method, batch = build("smooth_adv", eps_l2=0.5), by_hand.batch(12)
    torch.manual_seed(2)
    noise = [0.25 * torch.randn_like(batch.images) for _ in range(2)]
    torch.manual_seed(2)
    attacked = method.perturb(batch).chunk(2)[0] - noise[0]
    assert (attacked - batch.images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-9
    assert attacked.min() >= -1e-9 and attacked.max() <= 1 + 1e-9
    assert smoothed_loss(method, batch, attacked, noise) > smoothed_loss(method, batch, batch.images, noise)


def test_smooth_adv_leaves_all_alone_and_gives_modes_back(monkeypatch: pytest.MonkeyPatch):
    checks.assert_crafting_leaves_all_alone(build("smooth_adv"), by_hand.batch())
    checks.assert_modes_come_back_after_an_exception(build("smooth_adv"), by_hand.batch(), monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_passes_are_those_that_a_step_really_makes(name: str):
    method = build(name)
    assert checks.passes_of(method, by_hand.batch()) == method.passes


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_given_weights(name: str, tmp_path: Path):
    given = TinyNetwork()
    nn.init.normal_(given.normalisation.weight)
    path = tmp_path / "weights.safetensors"
    save_file(given.state_dict(), path)
    settings = complete({"data": {"name": "digits"}, "method": {"name": name, "init_weights": str(path)}}).method
    assert settings["init_weights"] == str(path)
    kind = type(build(name))
    method = kind(kind.Settings(init_weights=str(path)), build(name).task, lambda role: TinyNetwork())
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in method.target.state_dict().items())


def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path):
    """Missing, another network's, another shape, no safetensors: each names the key, the file and what is wrong."""
    path = tmp_path / "weights.safetensors"

    def refusal() -> str:
        with pytest.raises(HallmarkError) as refused:
            build("gaussian_noise", init_weights=str(path))
        assert str(refused.value).startswith(f"method.init_weights: {path}: ") and "\n" not in str(refused.value)
        return str(refused.value)

    assert "there is no such file" in refusal()
    path.write_bytes(b"not safetensors")
    assert "is not a safetensors file" in refusal()
    state = TinyNetwork().state_dict()
    save_file({"linear.weight": state["linear.weight"].clone()}, path)
    assert "lacks convolution.weight" in refusal()
    save_file({**state, "linear.bias": torch.zeros(7)}, path)
    assert "linear.bias is (7,), the network's (4,)" in refusal()


@pytest.mark.parametrize("wrong", [0, -0.25, 5])
def test_a_deviation_out_of_range_is_refused(wrong: float):
    with pytest.raises(ParamsError, match=r"^method\.sigma: must be "):
        complete({"data": {"name": "digits"}, "method": {"name": "gaussian_noise", "sigma": wrong}})


def test_the_radius_of_smooth_adv_is_the_datas():
    assert complete({"data": {"name": "digits"}, "method": {"name": "smooth_adv"}}).method["eps_l2"] == 0.5
