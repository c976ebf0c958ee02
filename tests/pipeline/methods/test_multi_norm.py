"""MAX, AVG, MSD and E-AT against their definitions, image by image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from bundle.table.threats import Threat
from pipeline.attacks.threat import project, steepest
from pipeline.methods import Batch, Method, method_class
from pipeline.methods.e_at import Extreme
from pipeline.methods.mat import PeerImages
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import SHAPE, THREAT, assert_same_loss, cross_entropy, log_p

SETS = torch.rand(3, 6, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
BALLS = (THREAT, Threat("l2", 0.4), Threat("l1", 1.5))
ALL = ["max", "avg", "msd", "e_at"]


def build(name: str, **settings: object) -> Method:
    return by_hand.build(name, **{"eps_l2": 0.4, "eps_l1": 1.5, **settings})


def values(method: Method, images: Tensor, batch: Batch) -> Tensor:
    """CE of each image with a copy of the target in eval mode, by hand."""
    logits = log_p(copy.deepcopy(method.target).eval()(images))
    return torch.stack([-logits[row, label] for row, label in enumerate(batch.labels.tolist())])


def size(images: Tensor, clean: Tensor, norm: str) -> Tensor:
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    return torch.linalg.vector_norm((images - clean).flatten(1), ord=order, dim=1)


@pytest.mark.parametrize("name", ["max", "msd", "e_at"])
def test_the_loss_is_cross_entropy_on_the_chosen_images(name: str):
    batch, images = by_hand.batch(), SETS[0]
    given = Extreme(images, torch.tensor(1), torch.tensor(3)) if name == "e_at" else images

    def expected(method: Method) -> Tensor:
        return cross_entropy(method.target(images), batch.labels)

    assert_same_loss(build(name), expected, checks.total(batch, given))


def test_avg_is_the_mean_over_the_norms():
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        losses = [cross_entropy(method.target(images), batch.labels) for images in SETS]
        return (losses[0] + losses[1] + losses[2]) / 3

    assert_same_loss(build("avg"), expected, checks.total(batch, PeerImages(tuple(SETS))))


def test_max_takes_for_each_image_the_worst_of_the_three_that_avg_takes():
    method, batch = build("max"), by_hand.batch(12)
    torch.manual_seed(2)
    sets = method_class("avg").perturb(method, batch).sets
    torch.manual_seed(2)
    found, losses = method.perturb(batch), [values(method, images, batch) for images in sets]
    chosen = torch.stack(losses).argmax(dim=0)
    assert len(chosen.unique()) > 1
    for row, place in enumerate(chosen.tolist()):
        assert torch.equal(found[row], sets[place][row])
    for images, ball in zip(sets, BALLS, strict=True):
        assert size(images, batch.images, ball.norm).max() <= ball.eps * (1 + 1e-6)


def test_msd_is_the_loop_written_by_hand_image_by_image():
    method, batch = build("msd", steps=6), by_hand.batch(12)
    target = copy.deepcopy(method.target).eval()
    ends, used = [], set()
    for row, label in enumerate(batch.labels):
        clean = batch.images[row, None]
        point, best, largest = clean, clean, -torch.inf
        for _ in range(6):
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(target(point), label[None]), point)
            point = point.detach()
            tried = [project(point + 0.25 * ball.eps * steepest(gradient, point, ball), clean, ball) for ball in BALLS]
            losses = [float(cross_entropy(target(each), label[None]).detach()) for each in tried]
            place = losses.index(max(losses))
            used.add(place)
            point = tried[place]
            if losses[place] > largest:
                best, largest = point, losses[place]
        ends.append(best)
    assert len(used) > 1
    torch.testing.assert_close(method.perturb(batch), torch.cat(ends), rtol=0, atol=1e-10)


@pytest.mark.parametrize("place", [0, 1])
def test_e_at_attacks_the_whole_batch_in_the_norm_that_it_draws(place: int):
    method, batch, ball = build("e_at"), by_hand.batch(12), BALLS[2 * place]
    method.seen.fill_(100.0)
    method.right[1 - place] = 100.0  # the other norm makes no error, and is not drawn
    found = method.perturb(batch)
    assert found.place == place
    assert size(found.images, batch.images, ball.norm).max() <= ball.eps * (1 + 1e-6)
    assert values(method, found.images, batch).mean() > values(method, batch.images, batch).mean()
    method.after_step(batch, found)
    assert method.seen.tolist() == [100.0 + 12 * (1 - place), 100.0 + 12 * place]
    assert method.right[place] == found.right


def test_e_at_counts_images_that_every_point_of_the_attack_leaves_right():
    method, batch, seen = build("e_at"), by_hand.batch(12), []
    method.target.register_forward_hook(lambda module, inputs, logits: seen.append(logits.detach()))
    found = method.perturb(batch)
    assert len(seen) == 11
    assert found.right == (torch.stack(seen).argmax(2) == batch.labels).all(dim=0).sum()


def test_e_at_draws_a_norm_by_the_share_of_its_error():
    method = build("e_at")
    assert method.probability() == 0.5, "until both norms were seen"
    method.right, method.seen = torch.tensor([90.0, 40.0]), torch.tensor([100.0, 100.0])
    assert float(method.probability()) == pytest.approx(0.6 / 0.7)
    method.right = torch.tensor([100.0, 100.0])
    assert method.probability() == 0.5
    assert {"right", "seen"} <= set(method.state_dict())
    method.right = torch.tensor([90.0, 40.0])
    torch.manual_seed(0)
    drawn = [int(method.perturb(by_hand.batch()).place) for _ in range(200)]
    assert sum(drawn) / 200 == pytest.approx(0.6 / 0.7, abs=0.08)


@pytest.mark.parametrize("name", ALL)
def test_all_norms_are_validated_and_crafting_leaves_all_alone(name: str):
    assert build(name).threats == BALLS
    checks.assert_crafting_leaves_all_alone(build(name), by_hand.batch())
    assert checks.passes_of(build(name), by_hand.batch()) == build(name).passes


@pytest.mark.parametrize("name", ALL)
def test_a_ramp_of_eps_shrinks_every_ball(name: str):
    method, batch = build(name), by_hand.batch()
    method.radius_share = 0.1
    for _ in range(4):
        images = method.attacked(method.perturb(batch))
        sizes = torch.stack([size(images, batch.images, ball.norm) / ball.eps for ball in BALLS])
        assert sizes.amin(dim=0).max() <= 0.1 * (1 + 1e-6)


@pytest.mark.parametrize("name", ALL)
def test_radii_come_from_the_data_and_the_threat(name: str):
    params = complete({"data": {"name": "cifar10"}, "method": {"name": name}})
    assert (params.method["eps_l2"], params.method["eps_l1"]) == (0.5, 12.0)
    assert (params.attack.eps_l2, params.attack.eps_l1) == ([0.5], [12.0])
