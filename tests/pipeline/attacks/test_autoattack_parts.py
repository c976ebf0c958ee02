"""AutoAttack attack by attack: the verdicts, warnings and images of one whole pyautoattack run, and a resumed one's."""

from __future__ import annotations

from collections.abc import Callable

import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.table.threats import Norm
from pipeline.attacks.autoattack import ATTACKS, NORMS, Version, autoattack, log_lines, settings
from pipeline.attacks.threat import Threat
from pipeline.run.cache import Part
from tests.pipeline.attacks.classifiers import images, perceptron


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few iterations for everyone, the reference too: what is compared is the order and the hand-over."""
    original = pyautoattack.AutoAttack._set_version

    def reduced(self: pyautoattack.AutoAttack, version: str = "standard") -> None:
        original(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 5
        self.apgd.n_iter_orig = self.apgd_targeted.n_iter_orig = 5
        self.apgd.eot_iter = min(2, self.apgd.eot_iter)
        self.square.n_queries = 40

    monkeypatch.setattr(pyautoattack.AutoAttack, "_set_version", reduced)


class Rounded(nn.Module):
    """No gradient wherever it matters: the attacks break little each, and AutoAttack warns."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner = perceptron(classes, dtype=torch.float32)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images * 6).round() / 6)


def whole(
    model: nn.Module, clean: Tensor, labels: Tensor, threat: Threat, version: Version
) -> tuple[Tensor, Tensor, list[str]]:
    """pyautoattack by itself: images, answers and warnings."""
    reference = pyautoattack.AutoAttack(
        model, norm=NORMS[threat.norm], eps=threat.eps, seed=5, version=version, device="cpu"
    )
    with torch.random.fork_rng(), log_lines() as lines:
        found, answers = reference.run_standard_evaluation(clean, labels, batch_size=6)
    return found, answers, lines.flags


def given(model: nn.Module, count: int = 14) -> tuple[Tensor, Tensor]:
    clean = images(count, 3, torch.float32)
    labels = model(clean).argmax(1)
    labels[1] = (labels[1] + 1) % 10
    return clean, labels


CASES = [
    ("standard", "linf", 8, perceptron),
    ("standard", "linf", 30, Rounded),
    ("plus", "linf", 8, perceptron),
    ("plus", "linf", 30, Rounded),
    ("plus", "l2", 0.06, perceptron),
    ("plus", "l1", 0.2, perceptron),
    ("rand", "linf", 8, perceptron),
    ("rand", "l1", 0.2, perceptron),
]


@pytest.mark.parametrize(("version", "norm", "size", "build"), CASES)
def test_verdicts_and_warnings_are_those_of_one_whole_run(
    version: Version, norm: Norm, size: float, build: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
):
    """Three batches of six, of which the survivors make fewer and others. 4x4 images are too small for Square in l2."""
    model = build(10, dtype=torch.float32) if build is perceptron else build(10)
    clean, labels = given(model)
    threat = Threat(norm, size)
    chosen = settings(10, norm, 4, version)["attacks"]
    if chosen != ATTACKS[version]:
        reduced = pyautoattack.AutoAttack._set_version
        monkeypatch.setattr(
            pyautoattack.AutoAttack,
            "_set_version",
            lambda self, name: (reduced(self, name), setattr(self, "attacks_to_run", list(chosen))),
        )
    expected, answers, warnings = whole(model, clean, labels, threat, version)
    parts: list[str] = []

    def keep(name: str, compute: Callable[[], Part], /) -> Part:
        parts.append(name)
        return compute()

    found = autoattack(
        model, clean, labels, threat=threat, seed=5, classes=10, batch_size=6, version=version, keep=keep
    )
    assert torch.equal(model(found.images).argmax(1), answers)
    assert (found.images - expected).abs().max() < 2e-6
    assert parts == chosen
    assert 1 < (answers != labels).sum() < 14
    assert found.flags == warnings and bool(warnings) == (build is Rounded)


def test_every_attack_gets_only_what_the_ones_before_it_left():
    model = Rounded(10)
    clean, labels = given(model)
    broken: dict[str, list[int]] = {}

    def keep(name: str, compute: Callable[[], Part], /) -> Part:
        part = compute()
        broken[name] = part.notes["broken"]
        assert len(part.images) == len(broken[name])
        return part

    found = autoattack(model, clean, labels, threat=Threat("linf", 30), seed=5, classes=10, batch_size=6, keep=keep)
    counts = [len(rows) for rows in broken.values()]
    assert sum(counts) == int((model(found.images).argmax(1) != labels).sum())
    assert sum(count > 0 for count in counts) >= 2, "more than one attack found something"
    assert found.square_broken == counts[-1] > 0


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_killed_run_goes_on_after_its_last_finished_attack(stop: int):
    model = Rounded(10)
    clean, labels = given(model)
    options = {"threat": Threat("linf", 30), "seed": 5, "classes": 10, "batch_size": 6}
    undisturbed = autoattack(model, clean, labels, **options)
    kept: dict[str, Part] = {}

    def until_killed(name: str, compute: Callable[[], Part], /) -> Part:
        if len(kept) == stop:
            raise KeyboardInterrupt
        kept[name] = compute()
        return kept[name]

    with pytest.raises(KeyboardInterrupt):
        autoattack(model, clean, labels, keep=until_killed, **options)
    assert list(kept) == ATTACKS["standard"][:stop]
    again: list[str] = []

    def resumed(name: str, compute: Callable[[], Part], /) -> Part:
        if name not in kept:
            again.append(name)
            kept[name] = compute()
        return kept[name]

    found = autoattack(model, clean, labels, keep=resumed, **options)
    assert again == ATTACKS["standard"][stop:]
    assert torch.equal(found.images, undisturbed.images)
    assert (found.flags, found.square_broken) == (undisturbed.flags, undisturbed.square_broken)


def test_a_random_networks_result_is_decided_by_the_seed():
    inner = perceptron(10, dtype=torch.float32)

    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = inner(images)
            return logits + 0.3 * torch.randn_like(logits)

    clean, labels = given(inner)
    found = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        found.append(autoattack(Noisy(), clean, labels, threat=Threat("linf", 8), seed=0, classes=10, version="rand"))
    assert torch.equal(found[0].images, found[1].images)
    assert not any("randomized" in flag for flag in found[0].flags), "rand is what the warning asks for"


def test_a_dynamic_network_is_flagged_and_the_next_one_is_not():
    """pyautoattack counts calls in a table that it never empties."""
    inner = perceptron(10, dtype=torch.float32)

    class Dynamic(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            def grad(points: Tensor) -> Tensor:
                return points

            return inner(grad(images))

    clean, labels = given(inner, 4)
    options = {"threat": Threat("linf", 8), "seed": 0, "classes": 10}
    assert any("dynamic" in flag for flag in autoattack(Dynamic(), clean, labels, **options).flags)
    assert autoattack(inner, clean, labels, **options).flags == []


def test_the_networks_weights_are_left_without_gradients():
    model = perceptron(10, dtype=torch.float32)
    clean, labels = given(model, 4)
    frozen = next(model.parameters()).requires_grad_(False)
    autoattack(model, clean, labels, threat=Threat("linf", 2), seed=0, classes=10)
    assert all(weight.grad is None for weight in model.parameters())
    assert not frozen.requires_grad and all(weight.requires_grad for weight in list(model.parameters())[1:])


def test_versions_are_pyautoattacks_own():
    for version, attacks in ATTACKS.items():
        reference = pyautoattack.AutoAttack(nn.Identity(), norm="L2", eps=0.1, seed=0, version=version)
        assert settings(10, "l2", 32, version)["attacks"] == attacks == reference.attacks_to_run
        assert settings(10, "l2", 32, version)["version"] == version
    plus = pyautoattack.AutoAttack(nn.Identity(), norm="L1", eps=0.1, seed=0, version="plus")
    assert settings(10, "l1", version="plus")["apgdRestarts"] == plus.apgd.n_restarts == 5
    assert settings(10, "l1", version="plus")["fabRestarts"] == plus.fab.n_restarts == 5
    assert not plus.apgd.use_largereps and "apgdRadii" not in settings(10, "l1", version="plus")


@pytest.mark.parametrize(
    ("classes", "version", "name", "missing"),
    [
        (3, "plus", "plus reduced: fewer than 4 classes", {"apgd-t"}),
        (2, "plus", "plus reduced: fewer than 3 classes", {"apgd-t", "apgd-dlr"}),
        (2, "rand", "rand reduced: fewer than 3 classes", {"apgd-dlr"}),
        (3, "rand", "rand", set()),
        (5, "plus", "plus, targets adapted", set()),
    ],
)
def test_few_classes_get_a_named_reduced_set_that_runs(classes: int, version: Version, name: str, missing: set[str]):
    chosen = settings(classes, "linf", 4, version)
    assert chosen["version"] == name and set(ATTACKS[version]) - set(chosen["attacks"]) == missing
    model = perceptron(classes, dtype=torch.float32)
    clean = images(5, 0, torch.float32)
    labels = model(clean).argmax(1)
    ran: list[str] = []

    def keep(name: str, compute: Callable[[], Part], /) -> Part:
        ran.append(name)
        return compute()

    found = autoattack(
        model, clean, labels, threat=Threat("linf", 0.01), seed=0, classes=classes, version=version, keep=keep
    )
    assert ran == chosen["attacks"] and found.flags == []


def test_a_version_that_there_is_not():
    with pytest.raises(HallmarkError, match="AutoAttack has no version custom; there are standard, plus, rand"):
        settings(10, version="custom")  # type: ignore[arg-type]
