"""RegMix-AMR with D²R-CAG against its formula: loss, generation, priors, settings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.methods import Batch, Method, method_class
from pipeline.methods.regmix_d2r_cag import Generated
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import (
    THREAT,
    assert_same_loss,
    build,
    clip,
    cross_entropy,
    kl_batchmean,
    kl_element,
    kl_terms,
    mean_square,
)

NAME, EPS = "regmix_d2r_cag", THREAT.eps
INITIAL, FINAL = torch.rand(2, 6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def objective(method: Method, clean: Tensor, images: Tensor) -> Tensor:
    """Σ KL(p_g(x)‖p_t(x')), both in eval mode."""
    copied = copy.deepcopy(method).eval()
    return kl_terms(copied.guide(clean).detach(), copied.target(images)).sum()


def with_prior(**settings: object) -> tuple[Method, Batch]:
    """Between two resets, with random priors that fill the ball."""
    method = build(NAME, **settings)
    method.prior.copy_((2 * torch.rand_like(method.prior) - 1) * EPS)
    return method, by_hand.batch(epoch=1)


@pytest.mark.parametrize("order", ["paper", "math"])
@pytest.mark.parametrize(("reduction", "kl"), [("element", kl_element), ("batchmean", kl_batchmean)])
def test_the_loss_is_d2rs_and_amr_with_nothing_detached(order: str, reduction: str, kl: Callable):
    """`reduction` is D²R's; AMR's two KL are sums over classes; paper: KL(a‖b) is KL(p_b‖p_a)."""
    batch = by_hand.batch()

    def amr(a: Tensor, b: Tensor) -> Tensor:
        return kl_batchmean(a, b) if order == "math" else kl_batchmean(b, a)

    def expected(method: Method) -> Tensor:
        first, last = method.target(INITIAL), method.target(FINAL)
        n, g = method.target(batch.images), method.guide(batch.images)
        d2r = 0.7 * cross_entropy(g, batch.labels) + mean_square(last, g) + 30 * kl(last, g)
        return d2r + 20 * (kl(n, g) - kl(g, n)).abs() + 7.5 * amr(last, first) + 3.75 * amr(first, last)

    method = build(NAME, kl_order=order, reduction=reduction, **{"lambda": 0.7})
    assert_same_loss(method, expected, checks.total(batch, Generated(INITIAL, FINAL)))


def test_d2rs_terms_are_those_of_d2r_cag():
    """Same weights, same images: the terms of the other file, name by name, and two more."""
    torch.manual_seed(1)
    combined = build(NAME)
    other = build("d2r_cag")
    other.load_state_dict({key: value for key, value in combined.state_dict().items() if key not in ("prior", "round")})
    batch = by_hand.batch()
    terms, expected = combined.losses(batch, Generated(INITIAL, FINAL)), other.losses(batch, FINAL)
    assert set(terms) - set(expected) == {"amr_main_kl", "amr_auxiliary_kl"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-12, atol=0)


def test_the_two_amr_terms_move_the_target_through_both_images_and_not_the_guide():
    method, batch = build(NAME), by_hand.batch()
    outputs: list[Tensor] = []
    method.target.register_forward_hook(lambda module, inputs, logits: outputs.append(logits))
    terms = method.losses(batch, Generated(INITIAL, FINAL))
    amr = terms["amr_main_kl"] + terms["amr_auxiliary_kl"]
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(amr, outputs[:2], retain_graph=True))
    through_guide = torch.autograd.grad(amr, list(method.guide.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in through_guide)


def test_the_generation_starts_at_the_prior_and_is_cags():
    method, batch = with_prior()
    start = clip(batch.images + method.prior[batch.index], batch.images, EPS)
    found = method.perturb(batch)
    torch.testing.assert_close(found.initial, start, rtol=0, atol=1e-12)
    expected = checks.ascend_by_hand(
        start, batch.images, lambda x: objective(method, batch.images, x), share=0.007 / 0.031
    )
    torch.testing.assert_close(found.final, expected, rtol=0, atol=1e-12)


def test_a_reset_draws_the_initial_images_from_the_whole_ball():
    method, batch = build(NAME, reset_epochs=4), by_hand.batch(12, epoch=8)
    method.prior.fill_(0.01)
    found = method.perturb(batch).initial - batch.images
    assert 0.95 * EPS < found.abs().max() <= EPS + 1e-12
    assert found.abs().mean() < 0.6 * EPS
    assert not torch.equal(found, method.perturb(batch).initial - batch.images)


@pytest.mark.parametrize(("epoch", "drawn"), [(0, True), (1, False), (3, False), (4, True), (7, False), (8, True)])
def test_resets_come_every_reset_epochs(epoch: int, drawn: bool):
    method, batch = build(NAME, reset_epochs=4, steps=1), by_hand.batch(epoch=epoch)
    method.prior.fill_(0.01)
    expected = (batch.images + 0.01).clamp(0, 1)
    assert torch.equal(method.perturb(batch).initial, expected) != drawn


def test_the_prior_is_where_the_generation_ended_by_image():
    """The next time that an image is seen its generation starts there; other images' priors stay."""
    method, batch = with_prior()
    before = method.prior.clone()
    found = method.perturb(batch)
    assert torch.equal(method.prior, before)
    method.after_step(batch, found)
    assert torch.equal(method.prior[batch.index], found.final - batch.images)
    others = [row for row in range(12) if row not in batch.index.tolist()]
    assert torch.equal(method.prior[others], before[others])
    torch.testing.assert_close(method.perturb(batch).initial, found.final, rtol=0, atol=1e-12)


def test_a_prior_of_another_crop_starts_inside_the_pixel_range():
    method, batch = build(NAME), by_hand.batch(epoch=1)
    method.prior.fill_(EPS)
    initial = method.perturb(batch).initial
    assert initial.max() == 1 and (batch.images + EPS).max() > 1
    checks.assert_in_ball(initial, batch)


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("steps", [1, 10])
def test_images_lie_in_the_ball_and_in_the_pixel_range(steps: int, epoch: int):
    method, batch = with_prior(steps=steps)
    found = method.perturb(replace(batch, epoch=epoch))
    checks.assert_in_ball(found.initial, batch)
    checks.assert_in_ball(found.final, batch)


def test_crafting_raises_the_divergence_it_attacks():
    method, batch = with_prior()
    found = method.perturb(batch)
    reached = objective(method, batch.images, found.final)
    assert reached > objective(method, batch.images, found.initial)
    assert reached > objective(method, batch.images, batch.images)


def test_crafting_leaves_modes_statistics_priors_and_gradients_alone():
    checks.assert_crafting_leaves_all_alone(*with_prior())
    checks.assert_crafting_leaves_all_alone(build(NAME), by_hand.batch(epoch=0))


def test_modes_come_back_after_an_exception(monkeypatch: pytest.MonkeyPatch):
    checks.assert_modes_come_back_after_an_exception(build(NAME), by_hand.batch(), monkeypatch)


def test_priors_are_in_the_state():
    method, batch = with_prior()
    method.after_step(batch, method.perturb(batch))
    other = build(NAME)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.prior, method.prior) and method.prior.shape == (12, *by_hand.SHAPE)


def test_passes_are_those_that_a_step_really_makes():
    method = build(NAME)
    assert checks.passes_of(method, by_hand.batch()) == method.passes


@pytest.mark.parametrize(
    "wrong",
    [{"amr_alpha": -1.0}, {"amr_beta": -1.0}, {"kl_order": "torch"}, {"reset_epochs": 0}, {"guide_init": "pretrained"}],
)
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        build(NAME, **wrong)


def test_defaults_are_those_of_both_papers_by_data():
    def settings(data: str) -> list:
        method = complete({"data": {"name": data}, "method": {"name": NAME}}).method
        names = ("lambda", "alpha", "beta", "reduction", "amr_alpha", "amr_beta", "reset_epochs")
        return [method[name] for name in names]

    assert settings("cifar10") == [1.0, 30.0, 20.0, "element", 7.5, 3.75, 10]
    assert settings("folder") == [1.0, 3.0, 2.0, "batchmean", 7.5, 3.75, 10]
    for data in ("cifar100", "tiny_imagenet"):
        assert settings(data) == [0.1, 30.0, 20.0, "element", 1.3, 0.65, 40]


def test_it_says_that_it_is_nobodys_but_ours():
    kind = method_class(NAME)
    assert kind.reconstructed and "own combination" in kind.title and "this project" in kind.paper
