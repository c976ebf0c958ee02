"""A bundle of a small network that nobody trained, made by the stages themselves."""

from __future__ import annotations

from pathlib import Path

import torch

from bundle.digests import canonical_json, write_whole
from pipeline import attack, attest, certify, export, prepare
from pipeline.networks import build_network, describe
from pipeline.networks.serialisation import weights_bytes
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.folders import Folders
from pipeline.stage import set_threads


def small_params(seed: int = 0) -> Params:
    return complete(
        {
            "data": {"name": "digits", "train_images": 200, "test_images": 30},
            "method": {"name": "standard"},
            "attack": {"tier": "quick", "images": 16, "eps_255": [16.0], "eps_l2": [0.3], "seed": seed},
            "certify": {"selection": 1, "estimation": 10},
            "device": "cpu",
            "threads": 1,
        }
    )


def make_published(root: Path, weights_seed: int = 0) -> Path:
    """Goes through the stages below `root`, with weights that a seed draws in place of training; returns the bundle.

    The working directory must be one of the test's own: the ledger of test reads and the kept parts lie there.
    """
    params, folders = small_params(), Folders(root)
    # As the stages' commands do: other numbers of threads may give other last bits.
    set_threads(params.cpu_threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed)
        network = build_network("preact_resnet8", classes=10, channels=1, width=8).eval()
    record = {
        "settings": {"threads": 1},
        "selection": {"rule": "none", "split": "validation", "epoch": 1},
        "environment": {},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "method": {"name": "standard", "title": "No defence", "paper": "", "reconstructed": False},
    }
    prepare.main(params, folders)
    write_whole(folders.trained / "weights.safetensors", weights_bytes(network))
    write_whole(folders.trained / "network.json", canonical_json(describe(network)))
    write_whole(folders.trained / "training.json", canonical_json(record))
    for stage in (export, attack, certify, attest):
        stage.main(params, folders)
    return folders.bundle
