"""Every loss against its formula, written out: the value and the gradient in every parameter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.methods import Batch, Method
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import (
    assert_same_loss,
    build,
    cross_entropy,
    kl_batchmean,
    kl_element,
    log_p,
    mean_square,
    p,
    smoothed,
    value_and_gradients,
)

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def total(batch: Batch, perturbed: Tensor | None = None) -> Callable[[Method], Tensor]:
    """What the loop minimises: the sum of the terms."""

    def loss(method: Method) -> Tensor:
        torch.manual_seed(3)
        made = method.perturb(batch) if perturbed is None else perturbed
        return torch.stack(list(method.losses(batch, made).values())).sum()

    return loss


def test_standard_is_cross_entropy_on_clean_images():
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        return cross_entropy(method.target(batch.images), batch.labels)

    assert_same_loss(build("standard"), expected, total(batch))


def test_pgd_at_is_cross_entropy_on_perturbed_images():
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        return cross_entropy(method.target(PERTURBED), batch.labels)

    assert_same_loss(build("pgd_at"), expected, total(batch, PERTURBED))


@pytest.mark.parametrize("name", ["d2r", "d2r_cag"])
@pytest.mark.parametrize(("reduction", "kl"), [("element", kl_element), ("batchmean", kl_batchmean)])
def test_d2r_is_equation_2_in_the_orders_of_the_official_code(name: str, reduction: str, kl: Callable):
    """λ CE(g, y) + MSE(a, g) + α KL(p_a‖p_g) + β |KL(p_n‖p_g) − KL(p_g‖p_n)|, nothing detached."""
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        a, n, g = method.target(PERTURBED), method.target(batch.images), method.guide(batch.images)
        clean = (kl(n, g) - kl(g, n)).abs()
        return 0.7 * cross_entropy(g, batch.labels) + mean_square(a, g) + 30 * kl(a, g) + 20 * clean

    method = build(name, reduction=reduction, **{"lambda": 0.7})
    assert_same_loss(method, expected, total(batch, PERTURBED))


def test_d2r_weights_are_the_papers():
    settings = build("d2r").settings
    assert (settings.lambda_, settings.alpha, settings.beta, settings.reduction) == (1.0, 30.0, 20.0, "element")


def test_d2r_agrees_with_the_official_codes_guarded_logarithm():
    """The official code has log(b + 1e-5)·b − a·b in place of KL, averaged over batch and classes."""
    batch = by_hand.batch()

    def guarded(a: Tensor, b: Tensor) -> Tensor:
        return (-log_p(a) * p(b) + torch.log(p(b) + 1e-5) * p(b)).mean()

    def official(method: Method) -> Tensor:
        a, n, g = method.target(PERTURBED), method.target(batch.images), method.guide(batch.images)
        clean = (guarded(g, n) - guarded(n, g)).abs()
        return cross_entropy(g, batch.labels) + mean_square(a, g) + 20 * clean + 30 * guarded(g, a)

    method = build("d2r_cag")
    wanted, wanted_gradients = value_and_gradients(official, method)
    value, gradients = value_and_gradients(total(batch, PERTURBED), method)
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=0)
    assert value != wanted
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted_gradients[name], rtol=1e-3, atol=1e-4)


def test_d2r_adversarial_term_is_not_the_reverse_kl():
    """The paper's KL(f_g(x)‖f_t(x')) is KL(p_t(x')‖p_g(x)); the generation's direction is the opposite one."""
    batch, method = by_hand.batch(), build("d2r")
    term = method.losses(batch, PERTURBED)["adversarial_kl"].detach()
    a, g = method.target(PERTURBED), method.guide(batch.images)
    torch.testing.assert_close(term, 30 * kl_element(a, g), rtol=1e-10, atol=0)
    assert (term - 30 * kl_element(g, a)).abs() > 1e-3 * term


def difference_of(method: Method, batch: Batch) -> Tensor:
    """The Remark's KL(f_t‖f_g) − KL(f_g‖f_t) in the paper's notation: KL(p_g‖p_t) − KL(p_t‖p_g)."""
    n, g = method.target(batch.images), method.guide(batch.images)
    return (kl_element(g, n) - kl_element(n, g)).detach()


def test_one_at_a_time_moves_the_target_where_the_difference_is_positive_and_the_guide_elsewhere():
    """And the term's value stays what it is without the switch."""
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        batch, method = by_hand.batch(seed=seed), build("d2r", one_at_a_time=True)
        positive = bool(difference_of(method, batch) > 0)
        seen.add(positive)
        method.zero_grad()
        term = method.losses(batch, PERTURBED)["clean_symmetric"]
        term.backward()
        reached = {
            "target": any(w.grad is not None and w.grad.abs().max() > 0 for w in method.target.parameters()),
            "guide": any(w.grad is not None and w.grad.abs().max() > 0 for w in method.guide.parameters()),
        }
        assert reached == {"target": positive, "guide": not positive}
        torch.testing.assert_close(term.detach(), 20 * difference_of(method, batch).abs(), rtol=1e-9, atol=0)
    assert seen == {True, False}


def test_without_the_switch_the_clean_symmetric_term_moves_both():
    batch, method = by_hand.batch(), build("d2r")
    method.losses(batch, PERTURBED)["clean_symmetric"].backward()
    assert all(w.grad.abs().max() > 0 for w in (method.target.linear.weight, method.guide.linear.weight))


def final_and_initial(method: Method, batch: Batch, prior: Tensor, true_class: float) -> tuple[Tensor, Tensor]:
    """Logits at the final and at the prior-initialised images (train mode, both with their graph)."""
    delta = prior.clone().requires_grad_()
    initial = method.target(batch.images + delta)
    (gradient,) = torch.autograd.grad(smoothed(initial, batch.labels, true_class), delta, retain_graph=True)
    eps = by_hand.THREAT.eps
    moved = (prior + eps * gradient.sign()).clamp(-eps, eps)
    final = method.target((batch.images + moved).clamp(0, 1))
    return final, initial


def with_prior(name: str, **settings: object) -> tuple[Method, Batch, Tensor]:
    """A method of the FGSM-PGK line between two resets, its priors set to random values in the ball."""
    batch, method = by_hand.batch(epoch=1), build(name, **settings)
    eps = by_hand.THREAT.eps
    method.prior.copy_((2 * torch.rand_like(method.prior) - 1) * eps)
    return method, batch, method.prior[batch.index]


def test_fgsm_pgk_is_smoothed_cross_entropy_and_mean_square_with_gradient_through_both_outputs():
    method, batch, prior = with_prior("fgsm_pgk")

    def expected(copy: Method) -> Tensor:
        final, initial = final_and_initial(copy, batch, prior, 0.5)
        return smoothed(final, batch.labels, 0.5) + 5.6 * mean_square(final, initial)

    assert_same_loss(method, expected, total(batch))


@pytest.mark.parametrize("order", ["paper", "math"])
@pytest.mark.parametrize(("reduction", "kl"), [("element", kl_element), ("batchmean", kl_batchmean)])
def test_regmix_amr_has_two_unequal_kl_terms(order: str, reduction: str, kl: Callable):
    """math: α KL(final‖initial) + β KL(initial‖final) as written; paper: torch's argument order, so both are turned."""
    method, batch, prior = with_prior("regmix_amr", kl_order=order, reduction=reduction)

    def expected(copy: Method) -> Tensor:
        final, initial = final_and_initial(copy, batch, prior, 0.5)
        main, other = (
            (kl(final, initial), kl(initial, final)) if order == "math" else (kl(initial, final), kl(final, initial))
        )
        return smoothed(final, batch.labels, 0.5) + 7.5 * main + 3.75 * other

    assert_same_loss(method, expected, total(batch))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("order", ["paper", "math"])
def test_regmix_additive_adds_a_kl_to_the_clean_output(order: str, detach: bool):
    method, batch, prior = with_prior("regmix", kl_order=order, detach_clean=detach, gamma=2.5, agr_form="additive")

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return kl_batchmean(a, b) if order == "math" else kl_batchmean(b, a)

    def expected(copy: Method) -> Tensor:
        final, initial = final_and_initial(copy, batch, prior, 0.5)
        clean = copy.target(batch.images)
        clean = clean.detach() if detach else clean
        regulariser = 7.5 * kl(final, initial) + 3.75 * kl(initial, final) + 2.5 * kl(final, clean)
        return smoothed(final, batch.labels, 0.5) + regulariser

    assert_same_loss(method, expected, total(batch))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("order", ["paper", "math"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.9])
def test_regmix_mixture_ties_the_final_output_to_a_mix_of_initial_and_clean(gamma: float, order: str, detach: bool):
    method, batch, prior = with_prior("regmix", kl_order=order, detach_clean=detach, gamma=gamma, agr_form="mixture")

    def expected(copy: Method) -> Tensor:
        final, initial = final_and_initial(copy, batch, prior, 0.5)
        clean = copy.target(batch.images)
        clean = clean.detach() if detach else clean
        mix = (1 - gamma) * p(initial) + gamma * p(clean)
        towards = (mix * (mix.log() - log_p(final))).sum() / len(mix)  # KL(mix‖final)
        away = (p(final) * (log_p(final) - mix.log())).sum() / len(mix)  # KL(final‖mix)
        main, other = (away, towards) if order == "math" else (towards, away)
        return smoothed(final, batch.labels, 0.5) + 7.5 * main + 3.75 * other

    assert_same_loss(method, expected, total(batch))


def test_regmix_refuses_a_mixture_without_the_initial_output():
    with pytest.raises(ValueError, match="gamma must be < 1 with agr_form: mixture"):
        build("regmix", agr_form="mixture", gamma=1.0)


@pytest.mark.parametrize("name", ["standard", "pgd_at", "d2r", "d2r_cag", "fgsm_pgk", "regmix_amr", "regmix"])
def test_passes_are_those_that_a_step_really_makes(name: str):
    method = build(name)
    assert checks.passes_of(method, by_hand.batch()) == method.passes
