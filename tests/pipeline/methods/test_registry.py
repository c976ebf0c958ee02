"""Names, settings and defaults of the methods."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from bundle.errors import HallmarkError
from pipeline.methods import Method, method_class, method_names
from pipeline.resolve import complete

NAMES = [
    "d2r",
    "d2r_cag",
    "fgsm_pgk",
    "lbgat",
    "mat",
    "pgd_at",
    "regmix",
    "regmix_amr",
    "regmix_d2r_cag",
    "standard",
    "trades",
]


def settings_of(data: str, method: str, **given: object) -> dict:
    return complete({"data": {"name": data}, "method": {"name": method, **given}}).method


def test_the_names_are_there_and_sorted():
    assert set(NAMES) <= set(method_names())
    assert method_names() == sorted(method_names())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_knows_its_name(name: str):
    assert issubclass(method_class(name), Method) and method_class(name).name == name


@pytest.mark.parametrize(("wrong", "hint"), [("d2r-cag", "d2r_cag"), ("regmixx", "regmix"), ("pgd", "pgd_at")])
def test_an_unknown_name_brings_the_nearest(wrong: str, hint: str):
    with pytest.raises(
        HallmarkError, match=rf"method\.name: must be one of .*, got '{wrong}' \(did you mean {hint}\?\)"
    ):
        method_class(wrong)


@pytest.mark.parametrize("wrong", [None, 3, ["d2r"], "nothing like it at all"])
def test_a_name_of_another_kind_is_refused(wrong: object):
    with pytest.raises(HallmarkError, match=r"method\.name: must be one of"):
        method_class(wrong)


@pytest.mark.parametrize("name", method_names())
def test_unknown_settings_are_refused(name: str):
    with pytest.raises(ValidationError, match="extra_forbidden"):
        method_class(name).Settings.model_validate({"gama": 1.0})


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100", "tiny_imagenet", "folder"])
def test_every_method_is_complete_on_every_data_set(name: str, data: str):
    resolved = complete({"data": {"name": data}, "method": {"name": name}})
    assert resolved.method["name"] == name
    assert resolved.train.epochs and resolved.train.lr and resolved.train.batch_size
    assert (resolved.network.guide is not None) == method_class(name).needs_guide


def test_d2r_defaults_by_data():
    """λ is 0.1 on the sets of 100 and 200 classes; own folders weigh the same whatever their number of classes."""
    assert settings_of("cifar10", "d2r_cag")["lambda"] == 1.0
    for data in ("cifar100", "tiny_imagenet"):
        assert (settings_of(data, "d2r_cag")["lambda"], settings_of(data, "d2r")["lambda"]) == (0.1, 0.1)
    folder = settings_of("folder", "d2r_cag")
    assert (folder["reduction"], folder["alpha"], folder["beta"], folder["lambda"]) == ("batchmean", 3.0, 2.0, 1.0)
    assert settings_of("cifar100", "d2r_cag", **{"lambda": 0.5})["lambda"] == 0.5


def test_fgsm_pgk_defaults_by_data():
    keys = ("true_class", "weight", "momentum", "reset_epochs", "ema_threshold")
    assert [settings_of("cifar10", "fgsm_pgk")[key] for key in keys] == [0.5, 5.6, 0.3, 10, 0.82]
    for data in ("cifar100", "tiny_imagenet"):
        assert [settings_of(data, "fgsm_pgk")[key] for key in keys] == [0.8, 1.0, 0.1, 40, 0.9]


def test_regmix_defaults_by_data():
    assert [settings_of("cifar10", "regmix")[key] for key in ("alpha", "beta", "reduction")] == [7.5, 3.75, "batchmean"]
    hundred = settings_of("cifar100", "regmix")
    assert [hundred[key] for key in ("alpha", "beta", "true_class", "reset_epochs")] == [1.3, 0.65, 0.8, 40]
    assert "weight" not in hundred


def test_paper_schedules():
    def train(method: str) -> tuple:
        settings = complete({"data": {"name": "cifar10"}, "method": {"name": method}}).train
        return settings.epochs, settings.lr, settings.batch_size, settings.weight_decay, settings.averaging

    assert train("d2r_cag") == (100, 0.1, 128, 2e-4, "none")
    assert train("fgsm_pgk") == (110, 0.1, 128, 5e-4, "ema")
    assert train("regmix") == (95, 0.1, 128, 5e-4, "ema")


def test_reconstructions_say_so():
    for name in ("regmix", "regmix_amr"):
        assert method_class(name).reconstructed and "reconstructed" in method_class(name).title
    assert not method_class("d2r_cag").reconstructed


def test_the_table_names_every_method():
    done = subprocess.run([sys.executable, "-m", "pipeline.methods"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in NAMES)
