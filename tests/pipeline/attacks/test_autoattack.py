"""AutoAttack through pyautoattack: the same answers as by itself, and none of its side effects."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pyautoattack
import pytest
import torch
from pyautoattack.checks import check_square_sr
from torch import Tensor, nn

from bundle.table.threats import Norm
from pipeline.attacks.autoattack import autoattack, log_lines, settings, square_flags
from pipeline.attacks.threat import Threat
from tests.pipeline.attacks.classifiers import Linear, images, perceptron
from tests.pipeline.evaluation.defences import convolutions, held_out, train

THREAT = Threat("linf", 16)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tenth of the iterations for everyone, the reference too: what is compared is the wrapping."""
    original = pyautoattack.AutoAttack._set_version

    def reduced(self: pyautoattack.AutoAttack, version: str = "standard") -> None:
        original(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 10
        self.apgd.n_iter_orig = self.apgd_targeted.n_iter_orig = 10
        self.square.n_queries = 60

    monkeypatch.setattr(pyautoattack.AutoAttack, "_set_version", reduced)
    yield


def labelled(model: nn.Module, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    clean = images(count, seed, torch.float32)
    return clean, model(clean).argmax(1)


@pytest.mark.parametrize("model", [perceptron(10, dtype=torch.float32), Linear(10, dtype=torch.float32)])
def test_same_images_and_verdicts_as_pyautoattack_by_itself(model: nn.Module):
    """Ten classes, two batches; some images broken, some not, two of them wrong from the start."""
    clean, labels = labelled(model, 14)
    labels[:2] = (labels[:2] + 1) % 10
    threat = Threat("linf", 5)
    reference = pyautoattack.AutoAttack(model, norm="Linf", eps=threat.eps, seed=3, version="standard", device="cpu")
    expected, answers = reference.run_standard_evaluation(clean, labels, batch_size=8)
    found = autoattack(model, clean, labels, threat=threat, seed=3, classes=10, batch_size=8)
    assert (found.images - expected).abs().max() < 1e-6
    assert torch.equal(model(found.images).argmax(1), answers)
    broken = model(found.images).argmax(1) != labels
    assert 2 < broken.sum() < 14
    assert (found.images - clean).abs().max() <= threat.eps + 1e-6
    assert found.images.min() >= 0 and found.images.max() <= 1


def test_the_verdicts_on_digits_are_pyautoattacks_image_by_image():
    """A trained network, some images of every kind: wrong from the start, broken by each attack, standing."""
    network = train(convolutions(8), lambda network, images, labels, index: images, epochs=6, rate=3e-3)
    sample, threat = held_out(), Threat("linf", 20)
    reference = pyautoattack.AutoAttack(network, norm="Linf", eps=threat.eps, seed=1, version="standard", device="cpu")
    expected, answers = reference.run_standard_evaluation(sample.images, sample.labels, batch_size=40)
    found = autoattack(network, sample.images, sample.labels, threat=threat, seed=1, classes=10, batch_size=40)
    assert torch.equal(network(found.images).argmax(1), answers)
    assert (found.images - expected).abs().max() < 1e-6
    standing = int((answers == sample.labels).sum())
    assert 10 < standing < 95, "66 to 80 for four seeds of weights and order"


def test_the_standard_version_of_ten_classes_is_pyautoattacks():
    reference = pyautoattack.AutoAttack(nn.Identity(), norm="Linf", eps=0.1, seed=0, version="standard")
    assert settings(10)["attacks"] == reference.attacks_to_run == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert settings(10)["targets"] == reference.apgd_targeted.n_target_classes == reference.fab.n_target_classes == 9
    assert settings(10)["version"] == "standard"
    assert settings(1000)["targets"] == 9


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 9, 10, 12])
def test_targets_follow_the_number_of_classes(classes: int, monkeypatch: pytest.MonkeyPatch):
    """Every attack of the set runs through, and gets min(9, K − 1) targets."""
    model, lines, seen = perceptron(classes, dtype=torch.float32), [], []
    clean, labels = labelled(model, 4)
    run = pyautoattack.AutoAttack.run_standard_evaluation

    def spy(self: pyautoattack.AutoAttack, *arguments: Tensor, **options: int) -> object:
        seen.append((self.attacks_to_run, self.apgd_targeted.n_target_classes, self.fab.n_target_classes))
        return run(self, *arguments, **options)

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", spy)
    found = autoattack(
        model, clean, labels, threat=Threat("linf", 0.01), seed=0, classes=classes, progress=lines.append
    )
    chosen = settings(classes)
    targets = min(9, classes - 1)
    assert seen == [([name], targets, targets) for name in chosen["attacks"]]
    ran = [line.split()[1] for line in lines if line.startswith("running ")]
    assert ran == chosen["attacks"]
    assert ("apgd-t" in ran) == (classes >= 4)
    assert (model(found.images).argmax(1) == labels).all(), "nothing can be broken in so small a ball"
    assert torch.equal(found.images, clean), "the clean image where nothing was found"


def test_a_large_ball_breaks_everything_whatever_the_number_of_classes():
    for classes in (3, 5, 10):
        model = perceptron(classes, dtype=torch.float32)
        clean, labels = labelled(model, 6)
        found = autoattack(model, clean, labels, threat=Threat("linf", 120), seed=0, classes=classes)
        assert (model(found.images).argmax(1) != labels).all()


def test_generators_tracer_and_logger_are_as_before():
    model = perceptron(3, dtype=torch.float32)
    clean, labels = labelled(model, 3)
    logger = logging.getLogger("auto-attack")
    before = (logger.level, logger.propagate, list(logger.handlers))
    torch.manual_seed(123)
    state = torch.get_rng_state()

    def tracer(frame: object, event: str, argument: object) -> None:
        return None

    old = sys.gettrace()
    sys.settrace(tracer)
    try:
        autoattack(model, clean, labels, threat=THREAT, seed=0, classes=3)
        kept = sys.gettrace()
    finally:
        sys.settrace(old)
    assert kept is tracer
    assert torch.equal(torch.get_rng_state(), state)
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_everything_is_put_back_after_an_exception():
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    clean = images(2, dtype=torch.float32)
    handlers, state, old = list(logging.getLogger("auto-attack").handlers), torch.get_rng_state(), sys.gettrace()
    with pytest.raises(RuntimeError, match="out of memory"):
        autoattack(Failing(), clean, torch.zeros(2, dtype=torch.long), threat=THREAT, seed=0, classes=3)
    assert logging.getLogger("auto-attack").handlers == handlers
    assert torch.equal(torch.get_rng_state(), state)
    assert sys.gettrace() is old


def test_same_seed_same_images_whatever_the_global_generator_did():
    model = perceptron(5, dtype=torch.float32)
    clean, labels = labelled(model, 6)
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        results.append(autoattack(model, clean, labels, threat=Threat("linf", 6), seed=4, classes=5).images)
    assert torch.equal(*results)


def test_a_randomised_model_raises_the_flag_as_data():
    inner = perceptron(5, dtype=torch.float32)

    class Randomised(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = inner(images)
            return logits + 0.5 * torch.randn_like(logits)

    clean, labels = labelled(inner, 4)
    flags = autoattack(Randomised(), clean, labels, threat=THREAT, seed=0, classes=5).flags
    assert any("randomized defense" in flag for flag in flags)


def test_probabilities_raise_the_flag_and_an_honest_model_raises_none():
    inner = perceptron(5, dtype=torch.float32)
    clean, labels = labelled(inner, 4)
    probabilities = nn.Sequential(inner, nn.Softmax(dim=1)).eval()
    flags = autoattack(probabilities, clean, labels, threat=THREAT, seed=0, classes=5).flags
    assert any("probability distribution" in flag for flag in flags)
    assert autoattack(inner, clean, labels, threat=THREAT, seed=0, classes=5).flags == []


def squarable(classes: int) -> nn.Module:
    """A small network on 6x6 images, which Square's pattern in l2 and l1 fits in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, classes))
    with torch.no_grad():
        network[1].weight.mul_(4)
        network[3].weight.mul_(4)
    return network.eval()


def larger(count: int, model: nn.Module) -> tuple[Tensor, Tensor]:
    clean = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    clean[:2] = clean[:2].round()
    return clean, model(clean).argmax(1)


SIZES = [("l2", "L2", 0.08), ("l1", "L1", 0.25)]


@pytest.mark.parametrize("classes", [4, 10])
@pytest.mark.parametrize(("norm", "theirs", "size"), SIZES)
def test_other_norms_stay_in_the_ball_and_run_every_attack(norm: Norm, theirs: str, size: float, classes: int):
    # Fewer classes lie farther apart.
    threat = Threat(norm, size if classes == 10 else 3 * size)
    model, lines = squarable(classes), []
    clean, labels = larger(14, model)
    found = autoattack(
        model, clean, labels, threat=threat, seed=3, classes=classes, batch_size=8, progress=lines.append
    )
    moves = (found.images.double() - clean.double()).flatten(1)
    assert moves.norm(2 if norm == "l2" else 1, dim=1).max() <= threat.eps
    assert found.images.min() >= 0 and found.images.max() <= 1
    broken = model(found.images).argmax(1) != labels
    assert 1 < broken.sum() < 14
    assert (moves[~broken] == 0).all(), "the clean image where nothing was found"
    assert [line.split()[1] for line in lines if line.startswith("running ")] == settings(classes, norm, 6)["attacks"]


@pytest.mark.parametrize(("norm", "theirs", "size"), SIZES)
def test_other_norms_give_what_pyautoattack_gives_by_itself(norm: Norm, theirs: str, size: float):
    """But for images that its own rounding leaves a hair outside of the ball."""
    model = squarable(10)
    clean, labels = larger(12, model)
    reference = pyautoattack.AutoAttack(model, norm=theirs, eps=size, seed=3, version="standard", device="cpu")
    expected, answers = reference.run_standard_evaluation(clean, labels, batch_size=8)
    found = autoattack(model, clean, labels, threat=Threat(norm, size), seed=3, classes=10, batch_size=8)
    assert (found.images - expected).abs().max() < 2e-6
    assert torch.equal(model(found.images).argmax(1), answers)


def test_the_settings_of_l1_are_pyautoattacks_own():
    reference = pyautoattack.AutoAttack(nn.Identity(), norm="L1", eps=1.0, seed=0, version="standard")
    chosen = settings(10, "l1")
    assert chosen["attacks"] == reference.attacks_to_run
    assert chosen["apgdTargets"] == reference.apgd_targeted.n_target_classes == 5
    assert chosen["targets"] == reference.fab.n_target_classes == 9
    assert chosen["apgdRestarts"] == reference.apgd.n_restarts == 5
    assert reference.apgd.use_largereps and reference.apgd_targeted.use_largereps and chosen["apgdRadii"] == [3, 2, 1]
    assert settings(4, "l1")["apgdTargets"] == settings(4, "l1")["targets"] == 3
    assert settings(10, "l2") == settings(10) and "apgdTargets" not in settings(10)


def test_images_too_small_for_squares_pattern_go_without_it_and_it_is_said():
    assert settings(10, "l2", 4)["version"] == "reduced: images under 5 pixels"
    assert settings(3, "l1", 4)["version"] == "reduced: fewer than 4 classes, images under 5 pixels"
    assert "square" not in settings(10, "l1", 4)["attacks"] and "square" in settings(10, "linf", 4)["attacks"]
    model = perceptron(10, dtype=torch.float32)
    clean, labels = labelled(model, 4)
    found = autoattack(model, clean, labels, threat=Threat("l2", 0.2), seed=0, classes=10)
    assert (found.images - clean).flatten(1).norm(dim=1).max() <= 0.2


@pytest.mark.parametrize(
    ("count", "found_by_square", "kept"),
    [
        (200, 1, False),
        (200, 2, False),
        (200, 3, True),
        (1000, 2, False),
        (1000, 3, True),
        (10000, 20, False),
        (10000, 21, True),
        (100, 3, True),
    ],
)
def test_squares_warning_counts_above_two_images_and_two_tenths_of_a_point(
    count: int, found_by_square: int, kept: bool
):
    """The flag is word for word what pyautoattack itself writes for these accuracies."""
    written: list[str] = []
    logger = logging.getLogger("written")
    logger.warning = lambda message: written.append(" ".join(message.split()))  # type: ignore[assignment]
    check_square_sr({"clean": 1.0, "apgd-ce": 0.5, "square": 0.5 - found_by_square / count}, logger=logger)
    assert square_flags(found_by_square, count) == (written if kept else [])
    assert len(square_flags(found_by_square, count)) == kept


def test_what_square_alone_broke_is_counted_and_is_no_flag_yet():
    """A network whose inputs are rounded has no gradient: the other attacks only find what chance breaks."""
    inner = perceptron(5, dtype=torch.float32)

    class Rounded(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return inner((images * 4).round() / 4)

    model = Rounded().eval()
    clean, labels = labelled(model, 12)
    threat = Threat("linf", 60)
    reference = pyautoattack.AutoAttack(model, norm="Linf", eps=threat.eps, seed=0, version="standard", device="cpu")
    reference.attacks_to_run = ["apgd-ce", "apgd-t", "fab-t"]
    reference.apgd_targeted.n_target_classes = reference.fab.n_target_classes = 4
    _, before = reference.run_standard_evaluation(clean, labels, batch_size=1)
    found = autoattack(model, clean, labels, threat=threat, seed=0, classes=5, batch_size=1)
    broken = int((model(found.images).argmax(1) != labels).sum())
    assert found.square_broken == broken - int((before != labels).sum()) > 1
    assert not any("Square" in flag for flag in found.flags)
    assert any("zero gradient" in flag for flag in found.flags)


def test_flags_come_once_and_in_one_line():
    with log_lines() as lines:
        for _ in range(2):
            logging.getLogger("auto-attack").warning("it seems to be a\n randomized defense!")
    assert lines.flags == ["it seems to be a randomized defense!"]
