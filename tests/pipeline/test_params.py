"""params.yaml: what it may say, what is filled in, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import BaseModel

from bundle.errors import HallmarkError
from pipeline.methods import method_class, method_names
from pipeline.params import Params, ParamsError
from pipeline.resolve import complete, load_params
from pipeline.training.batches import derived_seed


def document(**sections: Any) -> dict[str, Any]:
    return {"data": {"name": "digits"}, "method": {"name": "d2r_cag"}, **sections}


def complaint(given: dict[str, Any]) -> str:
    with pytest.raises(HallmarkError) as caught:
        complete(given)
    return str(caught.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"method": {"name": "d2r", "alpha": -1}}, "method.alpha: must be ≥ 0, got -1"),
        ({"threat": {"eps_255": 0}}, "threat.eps_255: must be > 0, got 0"),
        ({"threat": {"eps_255": 256}}, "threat.eps_255: must be ≤ 255, got 256"),
        ({"train": {"momentum": 1.0}}, "train.momentum: must be < 1, got 1.0"),
        ({"network": {"width": 12}}, "network.width: must be a multiple of 8, got 12"),
        ({"train": {"epochs": 2.5}}, "train.epochs: must be a whole number, got 2.5"),
        ({"train": {"lr": "fast"}}, "train.lr: must be a number, got 'fast'"),
        ({"train": {"compile": "yes"}}, "train.compile: must be true or false, got 'yes'"),
        ({"train": 3}, "train: must be a section with keys of its own, got 3"),
        ({"device": "gpu"}, "device: must be one of 'auto', 'cpu' or 'cuda', got 'gpu'"),
        ({"seed": True}, "seed: must be a whole number, got True"),
        ({"method": {"alpha": 1}}, "method.name: is missing; `python -m pipeline.methods` lists the methods"),
        ({"data": {}}, "data.name: is missing"),
        ({"treat": {}}, "treat: is not a key here; did you mean threat?"),
        ({"train": {"epoch": 3}}, "train.epoch: is not a key here; did you mean epochs?"),
        ({"method": {"name": "d2r", "lamda": 3}}, "method.lamda: is not a key here; did you mean lambda?"),
        ({"method": {"name": "standard", "alpha": 3}}, "method.alpha: is not a key here; the keys are none"),
        (
            {"attack": {"qqqq": 1}},
            "attack.qqqq: is not a key here; the keys are tier, eps_255, eps_l2, eps_l1, sweep, seeds, plugins, images, "
            "restarts, batch_size, seed",
        ),
        ({"data": {"name": "digits", "image_size": 16}}, "data.image_size: only data.name folder takes it, got 16"),
        ({"train": {"lr": float("nan")}}, "train.lr: input should be a finite number, got nan"),
    ],
)
def test_one_wrong_field_is_one_sentence(given: dict[str, Any], expected: str):
    assert complaint(document(**given)) == expected


def test_a_wrong_network_name_brings_the_nearest():
    found = complaint(document(network={"name": "resnet80"}))
    assert found.startswith("network.name: must be one of ") and found.endswith(
        "got 'resnet80' (did you mean resnet8?)"
    )
    assert complaint(document(network={"guide": "resnet_8"})).startswith("network.guide: must be one of ")


def test_a_wrong_method_name_brings_the_nearest():
    assert complaint(document(method={"name": "regmx"})).endswith("got 'regmx' (did you mean regmix?)")


def test_several_errors_are_a_line_each():
    given = document(seed=-1, threat={"eps_255": 300}, train={"epochs": 0, "lr": "x"})
    assert complaint(given).splitlines() == [
        "seed: must be ≥ 0, got -1",
        "threat.eps_255: must be ≤ 255, got 300",
        "train.epochs: must be ≥ 1, got 0",
        "train.lr: must be a number, got 'x'",
    ]
    assert len(complaint(document(method={"name": "d2r", "alpha": -1, "steps": 0})).splitlines()) == 2


def test_a_list_of_radii_has_each_once():
    assert complaint(document(attack={"eps_255": [8, 8]})) == "attack.eps_255: must list each eps once, got [8, 8]"


@pytest.mark.parametrize("radii", [{"eps_255": []}, {"eps_l2": [], "eps_l1": []}])
def test_an_evaluation_without_any_radius_is_refused(radii: dict[str, list[float]]):
    assert complaint(document(attack=radii)).startswith("attack: must name at least one radius in eps_255, eps_l2")


@pytest.mark.parametrize(
    ("threat", "expected"),
    [
        ({"norm": "l2", "eps_255": 8}, "threat.eps_255: norm l2 takes eps, got eps_255 8.0"),
        ({"eps": 0.5}, "threat.eps: norm linf takes eps_255, got eps 0.5"),
        ({"norm": "l3"}, "threat.norm: must be one of 'linf', 'l2' or 'l1', got 'l3'"),
    ],
)
def test_each_norm_has_its_own_unit(threat: dict[str, Any], expected: str):
    assert complaint(document(threat=threat)) == expected


def test_the_threat_is_what_is_attacked_unless_radii_are_named():
    by_default = complete(document(threat={"norm": "l2"}))
    assert by_default.threat.eps == 0.5 and by_default.threat.eps_255 is None
    assert (by_default.attack.eps_255, by_default.attack.eps_l2, by_default.attack.eps_l1) == (None, [0.5], None)
    named = complete(document(threat={"norm": "l1", "eps": 3}, attack={"eps_255": [8]})).attack
    assert (named.eps_255, named.eps_l2, named.eps_l1) == ([8], None, None)
    wider = complete(document(data={"name": "cifar10"}, threat={"eps_255": 4})).attack
    assert wider.eps_255 == [4, 8, 16]


def test_a_method_of_several_norms_is_attacked_in_all_of_them():
    params = complete(document(method={"name": "mat_multinorm", "eps_l1": 3}))
    assert params.attack.eps_255 == [32] and params.attack.eps_l1 == [3]
    assert params.attack.eps_l2 == [params.method["eps_l2"]]


@pytest.mark.parametrize("given", [{"averaging": "swa"}, {"awp_gamma": 0.01, "awp_start": 0.8}])
def test_a_feature_that_would_never_begin_is_refused(given: dict[str, Any]):
    assert "begins in no epoch of 3" in complaint(document(train={**given, "epochs": 3}))
    assert complete(document(train={**given, "epochs": 12})).train.epochs == 12


def test_features_that_a_method_cannot_have_are_refused():
    shared, smoothed = ({"name": "fgsm_pgk"} for _ in range(2))
    assert complaint(document(method=shared, train={"awp_gamma": 0.01})).startswith("train.awp_gamma: fgsm_pgk's loss")
    assert complaint(document(method=smoothed, train={"label_smoothing": 0.1})) == (
        "train.label_smoothing: fgsm_pgk smooths labels itself (method.true_class); leave it null"
    )
    assert complaint(document(method={"name": "regmix"}, threat={"norm": "l2"})) == (
        "threat.norm: regmix trains in linf, got l2"
    )
    assert complete(document(train={"awp_gamma": 0.01, "label_smoothing": 0.1})).train.awp_gamma == 0.01


def test_radii_are_sorted_and_each_is_checked():
    assert complete(document(attack={"eps_255": [16, 8.0]})).attack.eps_255 == [8, 16]
    assert "must be > 0, got 0" in complaint(document(attack={"eps_255": [8, 0]}))


def test_an_error_is_of_the_projects_kind():
    assert issubclass(ParamsError, HallmarkError)


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path):
    """YAML 1.1 reads 1e-3 as text; DVC and people mean a number."""
    text = "data: {name: digits}\nmethod: {name: standard}\ntrain: {lr: 1e-3, weight_decay: 5E-4}\nexport: {tolerance: .5}\n"
    params = load_params(written(tmp_path, text))
    assert (params.train.lr, params.train.weight_decay, params.export.tolerance) == (1e-3, 5e-4, 0.5)
    assert params.seed == 0 and isinstance(params.seed, int)


def test_whole_numbers_stay_whole_and_words_stay_words(tmp_path: Path):
    text = "seed: 12\nthreads: 1\ndata: {name: digits, path: 3e}\nmethod: {name: standard}\n"
    params = load_params(written(tmp_path, text))
    assert (params.seed, params.threads, params.data.path) == (12, 1, "3e")


def test_empty_sections_are_sections_with_defaults(tmp_path: Path):
    text = "data:\n  name: digits\nmethod:\n  name: standard\nthreat:\nnetwork:\ntrain:\nexport:\nattack:\ncertify:\n"
    assert load_params(written(tmp_path, text)) == complete(
        {"data": {"name": "digits"}, "method": {"name": "standard"}}
    )


def test_empty_required_sections_say_what_is_missing(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"^data\.name: is missing$"):
        load_params(written(tmp_path, "data:\nmethod: {name: standard}\n"))
    with pytest.raises(ParamsError, match=r"^method\.name: is missing;"):
        load_params(written(tmp_path, "data: {name: digits}\nmethod:\n"))


@pytest.mark.parametrize("text", ["", "3", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_one_sentence(tmp_path: Path, text: str):
    with pytest.raises(ParamsError, match="must be a mapping with the sections seed, threads, device, data"):
        load_params(written(tmp_path, text))


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x"])
def test_a_file_that_is_no_yaml_is_one_line(tmp_path: Path, text: str):
    with pytest.raises(ParamsError, match=r"params\.yaml: not YAML") as caught:
        load_params(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_to_be(tmp_path: Path):
    with pytest.raises(ParamsError, match=r"there is no such file; run from the folder that holds params\.yaml"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100", "tiny_imagenet", "folder"])
def test_resolved_settings_complete_to_themselves(method: str, data: str):
    """What is recorded can be put back into params.yaml: through YAML too, nothing changes."""
    resolved = complete({"data": {"name": data}, "method": {"name": method}, "train": {"milestones": [0.4]}, "seed": 3})
    dumped = resolved.model_dump()
    assert complete(dumped) == resolved
    assert complete(yaml.safe_load(yaml.safe_dump(dumped))) == resolved


def test_what_is_set_by_hand_wins_over_every_owner():
    given = document(
        threat={"eps_255": 12},
        network={"name": "resnet8"},
        method={"name": "d2r_cag", "lambda": 0.5},
        train={"epochs": 2, "lr": 0.3, "augment": "none"},
        attack={"images": 7},
    )
    params = complete(given)
    assert params.threat.eps_255 == 12 and params.attack.eps_255 == [12] and params.attack.images == 7
    assert params.network.name == "resnet8" and params.network.guide == "preact_resnet8"
    assert params.method["lambda"] == 0.5 and params.method["alpha"] == 30.0
    assert (params.train.epochs, params.train.lr, params.train.augment) == (2, 0.3, "none")
    assert params.train.schedule == "digits" and params.train.momentum == 0.9


def test_owners_of_the_defaults():
    digits, cifar = complete(document()), complete(document(data={"name": "cifar10"}))
    assert (digits.threat.eps_255, digits.attack.eps_255, digits.attack.images) == (32, [32], 200)
    assert (cifar.threat.eps_255, cifar.attack.eps_255, cifar.attack.images) == (8, [8, 16], 1000)
    assert (cifar.network.name, cifar.network.guide) == ("resnet18", "guide_resnet18")
    assert cifar.train.schedule == "paper" and cifar.train.first_epoch_lr == 0.02
    assert complete(document(data={"name": "folder"})).data.image_size == 32


def test_a_guide_is_named_where_there_is_one():
    alone = complete(document(method={"name": "pgd_at"}, network={"guide": "resnet8"}))
    assert alone.network.guide is None and complete(document()).network.guide == "preact_resnet8"


def test_nothing_changes_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        complete(document()).train.lr = 1.0  # type: ignore[misc]


def sections() -> list[type[BaseModel]]:
    nested = [field.annotation for field in Params.model_fields.values() if isinstance(field.annotation, type)]
    own = [item for item in nested if issubclass(item, BaseModel)]
    return [Params, *own, *(method_class(name).Settings for name in method_names())]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__qualname__)
def test_every_field_is_described(section: type[BaseModel]):
    for name, field in section.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert field.annotation.__doc__ if is_section else field.description, name


def test_the_file_of_this_repository_is_complete():
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    assert params.data.name and params.method["name"] in method_names()


def test_nothing_is_mirrored_in_a_folder_of_images_unless_asked_for():
    """A mirrored letter, digit or road sign is another one."""
    document = {"data": {"name": "folder"}, "method": {"name": "pgd_at"}}
    assert complete(document).train.augment == "crop"
    assert complete({**document, "train": {"augment": "crop_flip"}}).train.augment == "crop_flip"
    assert complete({**document, "data": {"name": "cifar10"}}).train.augment == "crop_flip"


def test_no_method_turns_mirroring_on():
    for name in method_names():
        assert complete({"data": {"name": "folder"}, "method": {"name": name}}).train.augment in ("crop", "none"), name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 2**63}, "seed: must be ≤ 9,223,372,036,854,775,807, got 9223372036854775808"),
        ({"data": {"name": "digits", "seed": 2**63}}, "data.seed: must be ≤ 9,223,372,036,854,775,807, got"),
        ({"attack": {"seed": 2**64 - 1}}, "attack.seed: must be ≤"),
        ({"certify": {"seed": -1}}, "certify.seed: must be ≥ 0, got -1"),
        ({"network": {"width": 8_000_000}}, "network.width: must be ≤ 1,024, got 8000000"),
        ({"network": {"guide_width": 2**40}}, "network.guide_width: must be ≤ 1,024, got"),
        ({"train": {"epochs": 10**12}}, "train.epochs: must be ≤ 100,000, got"),
        ({"train": {"batch_size": 10**12}}, "train.batch_size: must be ≤ 1,048,576, got"),
        ({"train": {"lr": 1e300}}, "train.lr: must be ≤ 1e+38, got 1e+300"),
        ({"train": {"milestones": [0.5, 7.0]}}, "train.milestones.1: must be ≤ 1, got 7.0"),
        ({"attack": {"images": 2**63}}, "attack.images: must be ≤ 1,000,000,000, got"),
        ({"attack": {"batch_size": 2**62}}, "attack.batch_size: must be ≤ 1,048,576, got"),
        (
            {"attack": {"eps_255": [n / 1000 for n in range(1, 500)]}},
            "attack.eps_255: list should have at most 100 items",
        ),
        ({"certify": {"estimation": 10**18}}, "certify.estimation: must be ≤ 10,000,000, got"),
        ({"method": {"name": "pgd_at", "steps": 2**62}}, "method.steps: must be ≤ 100,000, got"),
        ({"method": {"name": "mat", "peers": 10**6}}, "method.peers: must be ≤ 64, got"),
    ],
)
def test_what_no_machine_can_do_is_named_before_anything_runs(changes: dict[str, Any], sentence: str):
    document = {"data": {"name": "digits"}, "method": {"name": "d2r_cag"}, **changes}
    with pytest.raises(ParamsError) as refused:
        complete(document)
    assert str(refused.value).startswith(sentence)


def test_the_largest_seed_reaches_every_generator():
    """torch's and NumPy's, and the seeds that follow from it."""
    largest = 2**63 - 1
    assert complete({"seed": largest, "data": {"name": "digits"}, "method": {"name": "standard"}}).seed == largest
    torch.Generator().manual_seed(largest + 20)
    np.random.PCG64(largest), np.random.default_rng([largest, 0])
    assert derived_seed(largest, "extra rows", 1) < 2**64


@pytest.mark.parametrize("value", ["x" * 1_000_000, list(range(10_000)), {str(n): n for n in range(10_000)}])
def test_a_sentence_does_not_repeat_whatever_was_written(value: object):
    with pytest.raises(ParamsError) as refused:
        complete({"data": {"name": "digits"}, "method": {"name": "standard"}, "seed": value})
    assert len(str(refused.value)) < 300
    with pytest.raises(ParamsError) as refused:
        complete({"data": {"name": "digits"}, "method": {"name": "standard"}} | {f"k{n}": n for n in range(500)})
    lines = str(refused.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 480 more"
