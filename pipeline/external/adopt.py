"""In place of the stage train: a network that was trained elsewhere, checked and put where the stages look for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bundle.digests import canonical_json, write_whole
from bundle.layout import NETWORK, WEIGHTS
from bundle.numbers.intervals import clopper_pearson
from bundle.pages.wording import EXTERNAL
from pipeline.data.manifest import load_manifest
from pipeline.data.split import Split, load_split
from pipeline.external.contract import PROBES, check_network
from pipeline.external.weights import ShapeError, load_weights
from pipeline.networks import describe
from pipeline.networks.external import External, build_external, published_arguments
from pipeline.networks.names import NetworkError
from pipeline.networks.serialisation import read_network, weights_bytes
from pipeline.params import Params
from pipeline.run.devices import choose_device
from pipeline.run.environment import describe_environment
from pipeline.run.records import Folders

BATCH = 64
METHOD = {"name": EXTERNAL, "title": "External model", "paper": "", "reconstructed": False}
SELECTION = {
    "rule": "its training was no part of this run",
    "split": "unknown",
}


@dataclass(frozen=True)
class Model:
    """What is adopted: `module:function` or `torchvision:NAME`, its arguments, its normalisation, its file of weights.

    `outputs`: which of the network's outputs are the data's classes, in their order; None takes all.
    """

    spec: str
    arguments: Mapping[str, Any]
    mean: list[float] | None = None
    std: list[float] | None = None
    weights: str | Path | None = None
    outputs: list[int] | None = None


def main(params: Params, model: Model, folders: Folders) -> None:
    """Writes weights.safetensors, network.json and training.json; says what validation accuracy the network has.

    Raises NetworkError where the weights do not fit, or the network does not keep the contract on the data.
    """
    manifest = load_manifest(folders.data / "manifest.json")
    network = build(model, len(manifest["classes"]), manifest["image_shape"][2])
    validation = load_split(folders.data / "validation.npz")
    check_network(network, validation.images, len(manifest["classes"]))
    weights = check_rebuilding(network, validation)
    correct = count_correct(network, validation)
    record = {
        "settings": {"threads": params.cpu_threads},
        "selection": SELECTION,
        "environment": describe_environment(choose_device(params.device), params.cpu_threads),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "method": METHOD,
    }
    write_whole(folders.trained / WEIGHTS, weights)
    write_whole(folders.trained / NETWORK, canonical_json(describe(network)))
    write_whole(folders.trained / "training.json", canonical_json(record))
    print(
        f"{model.spec}: {record['parameters']:,} parameters; {correct} of {len(validation)} validation images right",
        flush=True,
    )
    if warning := chance_warning(correct, validation):
        print(f"Warning: {warning}", flush=True)


def build(model: Model, classes: int, channels: int) -> External:
    """The network with its weights in it, in eval mode; prints what was taken off names in the file."""
    source, _, name = model.spec.partition(":")
    torchvision = source == "torchvision"
    if torchvision and model.weights is None:
        raise NetworkError(f"{model.spec}: is built without weights; name their file with --weights (WEIGHTS=)")
    network = build_external(
        classes=classes,
        channels=channels,
        factory=None if torchvision else model.spec,
        torchvision=name if torchvision else None,
        arguments=(published_arguments(name) if torchvision else {}) | dict(model.arguments),
        mean=model.mean,
        std=model.std,
        outputs=model.outputs,
    )
    if model.weights is not None:
        _load(network, model.weights, classes)
    if not any(True for _ in network.parameters()):
        raise NetworkError(f"{model.spec}: has no parameters, so there is nothing to keep as weights")
    return network.eval()


def _load(network: External, weights: str | Path, classes: int) -> None:
    try:
        remarks = load_weights(network.network, weights)
    except ShapeError as error:
        if error.own[0] != classes or error.found[0] <= classes or error.found[1:] != error.own[1:]:
            raise
        raise NetworkError(
            f"{error}; to take {classes} of its {error.found[0]} outputs as the classes, build the network with all of "
            "them and name these, in the order of the data's class names, with --outputs (OUTPUTS=)"
        ) from None
    for remark in remarks:
        print(f"{remark[0].upper()}{remark[1:]}.")


def check_rebuilding(network: External, split: Split) -> bytes:
    """The content of weights.safetensors, once a network made from it anew answers alike; raises NetworkError."""
    weights, probes = weights_bytes(network), torch.from_numpy(split.images[:PROBES]).permute(0, 3, 1, 2) / 255
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(torch.initial_seed() + 1)  # what a factory draws must not decide an answer
        again = read_network(canonical_json(describe(network)), weights, "the network")
        same = torch.equal(again(probes), network(probes))
    if not same:
        raise NetworkError(
            "network: made again from its weights it answers otherwise, so that something that decides its answers is "
            "not among them; register it as a parameter or buffer, or give it as an argument"
        )
    return weights


@torch.no_grad()
def count_correct(network: nn.Module, split: Split) -> int:
    """Images of the split that the network answers right."""
    correct = 0
    for rows in np.array_split(np.arange(len(split)), -(-len(split) // BATCH)):
        images = torch.from_numpy(split.images[rows]).permute(0, 3, 1, 2) / 255
        correct += int((network(images).argmax(1).numpy() == split.labels[rows]).sum())
    return correct


def chance_warning(correct: int, split: Split) -> str | None:
    """A sentence where the accuracy is not above that of always answering the commonest class (at 95 %)."""
    chance = float(np.bincount(split.labels).max() / len(split))
    if clopper_pearson(correct, len(split))[0] > chance:
        return None
    return (
        f"{correct} of {len(split)} validation images right is no better than chance ({chance:.1%}); check the "
        "normalisation (--mean and --std where the network was trained with them), the order of the classes, which "
        "here is that of the data's names, and the weights"
    )
