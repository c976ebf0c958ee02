"""From resolved settings and prepared data to a method with its networks, and to a training of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from bundle.table.threats import Threat
from pipeline.data.manifest import load_described, load_manifest
from pipeline.data.split import Split
from pipeline.methods import Method, Task, method_class
from pipeline.networks import build_network
from pipeline.params import Params
from pipeline.run.devices import choose_device, make_fabric, pays_off
from pipeline.training.batches import Sampling
from pipeline.training.loop import Training


def build_training(params: Params, data: Path) -> Training:
    """A training of the splits in the folder `data`, as the settings want it, at its first step.

    Raises HallmarkError where the stage prepare has not left its files.
    """
    manifest = load_manifest(data / "manifest.json")
    train, validation = (load_described(data / f"{name}.npz", manifest) for name in ("train", "validation"))
    device = choose_device(params.device)
    assert params.train.batch_size  # resolved settings
    sampling = Sampling.of(manifest, len(train), batch_size=params.train.batch_size, seed=params.seed)
    fast = pays_off(device, train.shape)
    torch.manual_seed(params.seed)
    return Training(
        build_method(params, train, len(manifest["classes"]), own=sampling.own),
        train,
        validation,
        params.train,
        sampling=sampling,
        seed=params.seed,
        fabric=make_fabric(device, params.train, fast=fast),
        fast=fast,
    )


def build_method(params: Params, train: Split, classes: int, own: int) -> Method:
    """The method named by the settings, with fresh networks (torch's global generator draws their weights).

    `own` images of `train` are the data set's, the others additional ones.
    """
    network = params.network
    names = {"target": (network.name, network.width), "guide": (network.guide, network.guide_width)}

    def build(role: str) -> nn.Module:
        name, first_width = names[role]
        assert name is not None  # resolved settings
        return build_network(name, classes=classes, channels=train.shape[0], width=first_width)

    method = method_class(params.method["name"])
    settings = method.Settings.model_validate({key: value for key, value in params.method.items() if key != "name"})
    threat = Threat.of(params.threat.model_dump())
    task = Task(threat, classes, len(train), train.shape, extra=len(train) - own)
    return method(settings, task, build)
