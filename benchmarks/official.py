"""The steps of the methods' published code, as plainly as their scripts take them: what a training is timed beside.

Facts from the official repositories (lusti-Yu/D2R, jiaxiaojunQAQ/FGSM-PGK): eager float32 in the default layout,
parameters asked for gradients throughout, the guide's clean output computed anew in every step of the attack, averages
tensor by tensor. RegMix has no published code: FGSM-PGK's script with the reconstructed loss stands for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS, STEP = 8 / 255, 0.007


def d2r_cag(target: nn.Module, guide: nn.Module, **settings: Any) -> Step:
    """D²R-CAG's step: images (N, C, H, W), labels (N,), rows (N,) to the loss."""
    optimiser = torch.optim.SGD([*target.parameters(), *guide.parameters()], lr=1e-3, momentum=0.9, weight_decay=2e-4)

    def divergence(log_q: Tensor, p: Tensor) -> Tensor:
        return p * (torch.log(p + 1e-5) - log_q)

    def step(images: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        target.eval()
        guide.eval()
        adversarial = images.detach() + 0.001 * torch.randn_like(images)
        for _ in range(10):
            adversarial.requires_grad_()
            loss = divergence(F.log_softmax(target(adversarial), dim=1), F.softmax(guide(images), dim=1)).sum()
            (gradient,) = torch.autograd.grad(loss, [adversarial])
            adversarial = adversarial.detach() + STEP * gradient.sign()
            adversarial = torch.min(torch.max(adversarial, images - EPS), images + EPS).clamp(0, 1)
        target.train()
        guide.train()
        optimiser.zero_grad()
        attacked, clean, guided = target(adversarial.detach()), target(images), guide(images)
        first = divergence(F.log_softmax(guided, dim=1), F.softmax(clean, dim=1)).mean()
        second = divergence(F.log_softmax(clean, dim=1), F.softmax(guided, dim=1)).mean()
        third = divergence(F.log_softmax(guided, dim=1), F.softmax(attacked, dim=1)).mean()
        loss = F.cross_entropy(guided, labels) + F.mse_loss(attacked, guided) + 20 * (first - second).abs() + 30 * third
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def regmix(target: nn.Module, *, images: int, shape: tuple[int, int, int], device: torch.device) -> Step:
    """FGSM-PGK's step with RegMix's terms; the priors lie on the device, as in the script."""
    optimiser = torch.optim.SGD(target.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    average, steps = copy.deepcopy(target), 0
    priors = EPS * (torch.rand(images, *shape, device=device) - 0.5).sign()
    momenta = torch.zeros(images, *shape, device=device)

    def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
        weights = torch.full_like(logits, 0.5 / (logits.shape[1] - 1)).scatter(1, labels[:, None], 0.5)
        return -(weights * F.log_softmax(logits, dim=1)).sum(dim=1).mean()

    def divergence(a: Tensor, b: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(a, dim=1), F.softmax(b, dim=1), reduction="batchmean")

    def step(images: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        nonlocal steps
        prior = priors[rows].requires_grad_()
        initial = target(images + prior)
        smoothed(initial, labels).backward(retain_graph=True)
        assert prior.grad is not None
        gradient = prior.grad.detach()
        perturbation = (prior.detach() + EPS * gradient.sign()).clamp(-EPS, EPS)
        perturbation = torch.max(torch.min(perturbation, 1 - images), -images)
        final, clean = target(images + perturbation), target(images)
        loss = smoothed(final, labels) + 7.5 * divergence(final, initial) + 3.75 * divergence(initial, final)
        loss = loss + divergence(final, clean)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        right = [(logits.argmax(1) == labels).sum().item() for logits in (initial, final)]
        ratio = right[1] / max(1, right[0])
        direction = gradient / gradient.abs().sum()
        momenta[rows] = 0.3 * momenta[rows] + (2 - ratio) * direction
        moved = (priors[rows] + EPS * momenta[rows].sign()).clamp(-EPS, EPS)
        priors[rows] = torch.max(torch.min(moved, 1 - images), -images)
        decay = min(0.999 if ratio < 0.82 else min(1.0, 0.99999 * ratio / 0.82), (steps + 1) / (steps + 10))
        for value, mean in zip(target.state_dict().values(), average.state_dict().values(), strict=True):
            mean.copy_(decay * mean + (1 - decay) * value)
        steps += 1
        return loss.detach()

    return step


STEPS: dict[str, Callable[..., Step]] = {"d2r_cag": d2r_cag, "regmix": regmix}
