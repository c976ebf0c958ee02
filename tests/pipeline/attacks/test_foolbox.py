"""PGD, margin PGD and C&W against Foolbox's, from the same start with the same settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import Norm, Threat
from pipeline.attacks.cw import cw_l2
from pipeline.attacks.pgd import margin_pgd, pgd
from pipeline.attacks.threat import uniform_start
from tests.pipeline.attacks.classifiers import images, perceptron

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports SciPy by old names
    import foolbox

STEPS, COUNT = 10, 24
ROWS = torch.arange(COUNT)
PGD = {
    "linf": foolbox.attacks.LinfProjectedGradientDescentAttack,
    "l2": foolbox.attacks.L2ProjectedGradientDescentAttack,
}


class Watched(nn.Module):
    """A network that notes every point that it is asked about."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.points: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.points.append(images.detach().clone())
        return self.network(images)


def foolbox_pgd(norm: Norm, start: Tensor, on_margin: bool) -> foolbox.Attack:
    """Foolbox's PGD from a given start; on cross-entropy, or on the largest other logit minus the label's."""

    class Attack(PGD[norm]):
        def get_random_start(self, x0: object, epsilon: float) -> object:
            return type(x0)(start)

        def get_loss_fn(self, model: Callable, labels: object) -> Callable:
            if not on_margin:
                return super().get_loss_fn(model, labels)

            def loss(points: object) -> object:
                logits = model(points).raw
                label = nn.functional.one_hot(labels.raw, logits.shape[1]).bool()
                other = logits.masked_fill(label, -torch.inf).amax(dim=1)
                return type(points)((other - logits[label]).sum())

            return loss

    return Attack(rel_stepsize=0.25, steps=STEPS, random_start=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [pgd, margin_pgd])
def test_pgd_ends_where_foolboxs_ends(attack: Callable[..., Tensor], norm: Norm):
    """Foolbox keeps the last iterate: here that is the last point that the network is asked about."""
    network, clean = perceptron(5), images(COUNT)
    labels = network(clean).argmax(1)
    threat = Threat(norm, 20 if norm == "linf" else 0.15)
    watched = Watched(network)
    ours = attack(watched, clean, labels, threat=threat, seed=0, index=ROWS, steps=STEPS)
    start = uniform_start(clean, threat, seed=0, index=ROWS)
    theirs = foolbox_pgd(norm, start, attack is margin_pgd).run(
        foolbox.PyTorchModel(network, bounds=(0, 1)), clean, labels, epsilon=threat.eps
    )
    assert len(watched.points) == STEPS + 1
    assert (watched.points[-1] - theirs).abs().max() < 1e-5
    broken, seen = (network(found).argmax(1) != labels for found in (ours, theirs))
    assert (broken | ~seen).all(), "the best iterate is never worse than the last"
    assert 4 < seen.sum() < COUNT


def test_cws_distances_are_foolboxs():
    """Medians within 5 %; the same constants, steps and step size. Foolbox ends early by batch, so neither does."""
    network, clean = perceptron(5, dtype=torch.float32), images(COUNT, dtype=torch.float32)
    labels = network(clean).argmax(1)
    ours = cw_l2(
        network, clean, labels, steps=60, binary_search_steps=6, initial_constant=0.1, lr=0.02, abort_early=False
    )
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        steps=60, binary_search_steps=6, initial_const=0.1, stepsize=0.02, abort_early=False
    )
    theirs = attack.run(foolbox.PyTorchModel(network, bounds=(0, 1)), clean, labels)
    distances = (theirs - clean).flatten(1).norm(dim=1).double()
    assert ours.distances.isfinite().all() and (network(theirs).argmax(1) != labels).all()
    ratios = ours.distances / distances
    assert ratios.median().item() == pytest.approx(1, abs=0.05)
    assert ratios.min() > 0.8 and ratios.max() < 1.25
