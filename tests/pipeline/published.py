"""A bundle of a small network that nobody trained, made by the stages themselves."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.digests import canonical_json, write_whole
from pipeline import attack, attest, certify, export, prepare
from pipeline.data.split import Split, load_split
from pipeline.evaluation.victim import torch_logits
from pipeline.networks import build_network, describe
from pipeline.networks.serialisation import weights_bytes
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.environment import describe_environment
from pipeline.run.records import Folders
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


def fit_head(network: nn.Module, train: Split) -> None:
    """Ridge regression on the features of random layers: many images are right, and an attack breaks them."""
    features: list[Tensor] = []
    hook = network.linear.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].double()))  # type: ignore[union-attr]
    torch_logits(network, train.images)
    hook.remove()
    found = torch.cat([torch.cat(features), torch.ones(len(train), 1)], dim=1)
    targets = functional.one_hot(torch.from_numpy(train.labels), 10).double()
    solved = torch.linalg.solve(found.T @ found + 1e-3 * torch.eye(found.shape[1]), found.T @ targets)
    with torch.no_grad():
        network.linear.weight.copy_(10 * solved[:-1].T)  # type: ignore[operator, union-attr]
        network.linear.bias.copy_(10 * solved[-1])  # type: ignore[operator, union-attr]


def make_published(root: Path, weights_seed: int = 0, *, fitted: bool = False) -> Path:
    """Goes through the stages below `root`, with weights that a seed draws in place of training; returns the bundle.

    `fitted`: the last layer is fit_head()'s.
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
        "environment": describe_environment(torch.device("cpu"), 1),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "method": {"name": "standard", "title": "No defence", "paper": "", "reconstructed": False},
    }
    prepare.main(params, folders)
    if fitted:
        fit_head(network, load_split(folders.data / "train.npz"))
    write_whole(folders.trained / "weights.safetensors", weights_bytes(network))
    write_whole(folders.trained / "network.json", canonical_json(describe(network)))
    write_whole(folders.trained / "training.json", canonical_json(record))
    write_whole(folders.trained / "history.csv", b"epoch,loss_all,validation_clean,validation_pgd_10\n1,2.5,0.5,0.25\n")
    for stage in (export, attack, certify, attest):
        stage.main(params, folders)
    return folders.bundle
