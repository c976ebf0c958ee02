"""What every attack promises, whatever it searches for: ball, box, determinism, its own random numbers, single images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.table.threats import Norm, Threat
from pipeline.attacks.adaptive import adaptive, transfer
from pipeline.attacks.cw import cw
from pipeline.attacks.pgd import margin, noise
from pipeline.attacks.single import apgd_ce, apgd_t, fab_t, square

SIZES: dict[Norm, float] = {"linf": 16, "l2": 0.3, "l1": 1.0}
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
COUNT = 9


def network(seed: int = 0) -> nn.Module:
    """Six classes on 6x6 images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, 6))
    with torch.no_grad():
        built[1].weight.mul_(4)
    return built.eval()


def related(share: float) -> nn.Module:
    """The attacked network with a share of another one's weights."""
    mixed = network(1)
    with torch.no_grad():
        for weight, own in zip(mixed.parameters(), MODEL.parameters(), strict=True):
            weight.lerp_(own, 1 - share)
    return mixed


MODEL = network()
GUIDE = related(0.3)
#: Those that draw random numbers for the batch as a whole, inside pyautoattack.
BY_BATCH = {
    "apgd_ce": partial(apgd_ce, steps=8),
    "apgd_t": partial(apgd_t, steps=8),
    "square": partial(square, queries=60),
}
BY_IMAGE = {
    "noise": partial(noise, draws=3),
    "transfer": partial(transfer, source=GUIDE, steps=8),
    "adaptive": partial(adaptive, companions={"guide": GUIDE, "peer": network(2)}, steps=8),
    "fab_t": partial(fab_t, steps=8),
    "cw": partial(cw, steps=20, binary_search_steps=3, initial_constant=1.0, lr=0.05),
}
ATTACKS: dict[str, Callable[..., Tensor]] = BY_BATCH | BY_IMAGE


def cases(attacks: dict) -> list:
    return [(norm, name) for name in attacks for norm in SIZES if name != "cw" or norm == "l2"]


def sample() -> tuple[Tensor, Tensor, Tensor]:
    """Images with pixels at the ends of the range, one of them answered wrong from the start; rows that are no places."""
    clean = torch.rand(COUNT, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    clean[:4] = clean[:4].round()
    labels = MODEL(clean).argmax(1)
    labels[5] = (labels[5] + 1) % 6
    return clean, labels, 7 * torch.arange(COUNT)


@pytest.mark.parametrize(("norm", "name"), cases(ATTACKS))
def test_ball_box_and_random_numbers(norm: Norm, name: str):
    """Twice the same, whatever the global generator's state, which is afterwards what it was before."""
    clean, labels, index = sample()
    copy, threat, found = clean.clone(), Threat(norm, SIZES[norm]), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        found.append(ATTACKS[name](MODEL, clean, labels, threat=threat, seed=4, index=index))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*found)
    moves = (found[0].double() - clean.double()).flatten(1)
    assert moves.norm(ORDER[norm], dim=1).max() <= threat.eps + 1e-7 * (norm == "linf")
    assert found[0].min() >= 0 and found[0].max() <= 1 and not found[0].requires_grad
    assert torch.equal(clean, copy) and all(weight.grad is None for weight in MODEL.parameters())
    assert all(weight.requires_grad for weight in MODEL.parameters())
    broken = MODEL(found[0]).argmax(1) != labels
    assert broken[5], "what is wrong from the start stays wrong"
    assert broken.sum() > 1 or name == "noise"


@pytest.mark.parametrize(("norm", "name"), cases(BY_IMAGE))
def test_an_image_is_alone_in_its_batch(norm: Norm, name: str):
    clean, labels, index = sample()
    options = {"threat": Threat(norm, SIZES[norm]), "seed": 4}
    whole = ATTACKS[name](MODEL, clean, labels, index=index, **options)
    order = torch.tensor([6, 0, 5])
    part = ATTACKS[name](MODEL, clean[order], labels[order], index=index[order], **options)
    torch.testing.assert_close(part, whole[order], rtol=0, atol=2e-4)


@pytest.mark.parametrize(("norm", "name"), cases({name: ATTACKS[name] for name in ("noise", "transfer", "adaptive")}))
def test_another_seed_is_another_search(norm: Norm, name: str):
    clean, labels, index = sample()
    first, second = (
        ATTACKS[name](MODEL, clean, labels, threat=Threat(norm, SIZES[norm]), seed=seed, index=index) for seed in (0, 1)
    )
    assert (first != second).flatten(1).any(dim=1).sum() > 4


def test_more_draws_of_noise_never_lose():
    clean, labels, index = sample()
    options = {"threat": Threat("linf", 40), "seed": 0, "index": index}
    few, many = (margin(MODEL(noise(MODEL, clean, labels, draws=draws, **options)), labels) for draws in (1, 12))
    assert (many <= few).all() and (many < few).any()


def test_transfer_from_the_network_itself_is_the_white_box_and_from_another_one_less():
    clean, labels, index = sample()
    options = {"threat": Threat("linf", 10), "seed": 0, "index": index, "steps": 20}
    own, other = (
        margin(MODEL(transfer(MODEL, clean, labels, source=it, **options)), labels) for it in (MODEL, related(0.8))
    )
    assert own.mean() < other.mean() - 0.1


def test_transfer_takes_no_gradient_of_the_attacked_network():
    class Opaque(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return MODEL(images)

    clean, labels, index = sample()
    transfer(Opaque(), clean, labels, source=GUIDE, threat=Threat("linf", 8), seed=0, index=index, steps=2)


def test_adaptive_breaks_what_only_its_divergence_can_see():
    """A network whose margin is flat: the companion's distribution tells it apart from what the answers hide.

    The network answers by the sign of a score, so its margin and its cross-entropy have no gradient in the answered
    class; a third logit, always far below, still carries the score.
    """

    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            score = images.flatten(1).mean(dim=1) - 0.5
            answer = torch.where(score[:, None] > 0, torch.tensor([1.0, -1.0]), torch.tensor([-1.0, 1.0]))
            return torch.cat([answer, score[:, None] - 4], dim=1)

    clean = torch.full((4, 1, 6, 6), 0.55)
    labels = torch.zeros(4, dtype=torch.long)

    class Guide(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, 0.0, 6.0]]).expand(len(images), 3) + 0 * images.mean()

    found = adaptive(
        Flat().eval(),
        clean,
        labels,
        companions={"guide": Guide()},
        threat=Threat("linf", 16),
        seed=0,
        index=torch.arange(4),
        steps=10,
    )
    assert (Flat()(found).argmax(1) == 1).all()


def test_refusals_are_one_sentence():
    clean, labels, index = sample()
    options = {"seed": 0, "index": index}
    with pytest.raises(HallmarkError, match="needs a network that was trained together"):
        adaptive(MODEL, clean, labels, companions={}, threat=Threat("linf", 8), **options)
    with pytest.raises(HallmarkError, match="cw is an attack in l2, and the threat is linf-8"):
        cw(MODEL, clean, labels, threat=Threat("linf", 8), **options)
    with pytest.raises(HallmarkError, match="square in l1 needs images of 5 pixels a side; these have 4"):
        square(MODEL, clean[..., :4, :4], labels, threat=Threat("l1", 1), **options)
    three = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    with pytest.raises(HallmarkError, match="apgd-t needs at least 4 classes; this network has 3"):
        apgd_t(three, clean, labels % 3, threat=Threat("linf", 8), **options)
