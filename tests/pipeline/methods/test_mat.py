"""MAT-style against the specification that it is reconstructed from: peers, loss, images, settings."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.attacks.threat import project
from pipeline.methods import Method, Task, method_class
from pipeline.methods.mat import PeerImages
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import (
    CLASSES,
    SHAPE,
    THREAT,
    TinyNetwork,
    assert_same_loss,
    cross_entropy,
    kl_batchmean,
)

SETS = torch.rand(3, 6, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def build(peers: int = 2, **settings: object) -> Method:
    """Every peer's BatchNorm statistics are its own, and not the initial ones."""
    method = by_hand.build("mat", peers=peers, **settings)
    with torch.no_grad():
        for peer in method.peers:
            for _ in range(3):
                peer(torch.rand(16, *SHAPE))
    return method


def loss_against_peer(peer: nn.Module, labels: Tensor, images: Tensor) -> Tensor:
    return cross_entropy(copy.deepcopy(peer).eval()(images), labels) * len(labels)


@pytest.mark.parametrize("tau", [0.5, 0.2])
@pytest.mark.parametrize("peers", [2, 3])
def test_the_loss_is_the_specifications(peers: int, tau: float):
    """Σ_i 1/N Σ_j [(1−τ) CE(f_i(x̂_j), y) + τ/(N−1) Σ_{k≠i} KL(sg p_k(x̂_j)‖p_i(x̂_j))]."""
    batch, images = by_hand.batch(), PeerImages(tuple(SETS[:peers]))

    def expected(method: Method) -> Tensor:
        networks = [method.target, *(getattr(method, f"peer_{number}") for number in range(1, peers))]
        loss = torch.zeros(())
        for i, own in enumerate(networks):
            for j in range(peers):
                answer = own(SETS[j])
                mutual = torch.zeros(())
                for k, other in enumerate(networks):
                    if k != i:
                        mutual = mutual + kl_batchmean(other(SETS[j]).detach(), answer)
                labelled = cross_entropy(answer, batch.labels)
                loss = loss + ((1 - tau) * labelled + tau * mutual / (peers - 1)) / peers
        return loss

    assert_same_loss(build(peers, tau=tau), expected, checks.total(batch, images))


def test_a_peers_terms_move_that_peer_alone():
    """Stop-gradient on the other peers' distributions: nobody moves towards a peer to please it."""
    method, batch = build(3), by_hand.batch()
    terms = method.losses(batch, PeerImages(tuple(SETS)))
    for number, peer in enumerate(method.peers):
        for kind in ("cross_entropy", "mutual_kl"):
            gradients = torch.autograd.grad(
                terms[f"peer_{number}_{kind}"],
                [other.linear.weight for other in method.peers],
                retain_graph=True,
                allow_unused=True,
            )
            reached = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
            assert reached == [other is peer for other in method.peers]


def test_tau_0_is_labels_alone_and_tau_1_is_peers_alone():
    batch, images = by_hand.batch(), PeerImages(tuple(SETS[:2]))
    labels = build(tau=0.0).losses(batch, images)
    assert labels["peer_0_mutual_kl"] == labels["peer_1_mutual_kl"] == 0 and labels["peer_0_cross_entropy"] > 0
    mutual = build(tau=1.0).losses(batch, images)
    assert mutual["peer_0_cross_entropy"] == 0 and mutual["peer_0_mutual_kl"] > 0


@pytest.mark.parametrize("peers", [2, 3])
def test_each_peer_has_its_own_attack_from_its_own_uniform_start(peers: int):
    method, batch = build(peers), by_hand.batch()
    torch.manual_seed(11)
    expected = []
    for peer in method.peers:
        noise = THREAT.eps * (2 * torch.rand(batch.images.shape) - 1)
        start = project(batch.images + noise, batch.images, THREAT)
        expected.append(
            checks.ascend_by_hand(
                start, batch.images, lambda x, p=peer: loss_against_peer(p, batch.labels, x), share=0.25
            )
        )
    torch.manual_seed(11)
    found = method.perturb(batch).sets
    assert len(found) == peers
    for images, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(images, wanted, rtol=0, atol=1e-12)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("steps", [1, 10])
def test_images_lie_in_the_ball_and_in_the_pixel_range(steps: int):
    method, batch = build(3, steps=steps), by_hand.batch()
    for images in method.perturb(batch).sets:
        checks.assert_in_ball(images, batch)


def test_each_set_raises_the_loss_of_its_own_peer():
    method, batch = build(), by_hand.batch(12)
    sets = method.perturb(batch).sets
    for number, peer in enumerate(method.peers):
        reached = loss_against_peer(peer, batch.labels, sets[number])
        assert reached > loss_against_peer(peer, batch.labels, batch.images)
        assert reached > loss_against_peer(peer, batch.labels, sets[1 - number])


def test_crafting_leaves_modes_statistics_and_gradients_alone():
    checks.assert_crafting_leaves_all_alone(build(3), by_hand.batch())


def test_modes_come_back_after_an_exception(monkeypatch: pytest.MonkeyPatch):
    checks.assert_modes_come_back_after_an_exception(build(), by_hand.batch(), monkeypatch)


def test_peers_are_built_as_targets_one_by_one():
    """Networks of the target's role, each with weights of its own, all trained, all children that the loop compiles."""
    roles: list[str] = []

    def fresh(role: str) -> nn.Module:
        roles.append(role)
        return TinyNetwork()

    kind = method_class("mat")
    method = kind(kind.Settings(peers=3), Task(THREAT, CLASSES, 12, SHAPE), fresh)
    assert roles == ["target"] * 3 and not kind.needs_guide
    assert list(method.children()) == method.peers and len(method.peers) == 3
    assert not torch.equal(method.peers[0].linear.weight, method.peers[1].linear.weight)
    assert len(method.trained()) == 3 * len(list(TinyNetwork().parameters()))


def test_peer_0_is_served():
    method = build(3)
    assert method.served() is method.target is method.peers[0]


def test_all_peers_are_in_the_state():
    torch.manual_seed(3)
    method, other = build(3), build(3)
    other.load_state_dict(method.state_dict(), strict=True)
    images = torch.rand(4, *SHAPE)
    for one, two in zip(method.eval().peers, other.eval().peers, strict=True):
        assert torch.equal(one(images), two(images))


@pytest.mark.parametrize("peers", [2, 3])
def test_passes_are_those_that_a_step_really_makes(peers: int):
    """`passes` speaks of two peers; N of them make 10 N + N² forwards and as many backwards."""
    method = build(peers)
    found = checks.passes_of(method, by_hand.batch())
    assert found == (10 * peers + peers**2,) * 2
    assert peers != 2 or found == method.passes


@pytest.mark.parametrize(
    "wrong", [{"peers": 1}, {"peers": 2.0}, {"tau": -0.1}, {"tau": 1.1}, {"steps": 0}, {"relative_step": 0.0}]
)
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        method_class("mat").Settings.model_validate(wrong)


def test_defaults_and_that_it_is_a_reconstruction():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "mat"}})
    assert params.method == {"name": "mat", "peers": 2, "tau": 0.5, "steps": 10, "relative_step": 0.25}
    assert params.network.guide is None
    kind = method_class("mat")
    assert kind.reconstructed and kind.title == "MAT-style, reconstructed"
