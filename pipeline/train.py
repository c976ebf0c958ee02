"""Stage train: out/data to the weights of the served network, chosen on the validation split."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from bundle.digests import canonical_json, sha256_file, write_whole
from bundle.threats import Threat
from pipeline.data.split import load_split
from pipeline.environment import describe_environment, lock_digest, source_digest
from pipeline.networks import describe
from pipeline.params import Params
from pipeline.stage import stage
from pipeline.training.build import build_method
from pipeline.training.checkpoints import checkpoint_folder, remove_checkpoints
from pipeline.training.devices import choose_device, make_fabric, memory_format
from pipeline.training.loop import Training
from pipeline.training.progress import save_history

DATA, OUT = Path("out/data"), Path("out/train")


def main(params: Params, data: Path = DATA, out: Path = OUT) -> None:
    """Trains, and writes weights.safetensors, network.json, training.json, metrics.json and history.csv."""
    train, validation = load_split(data / "train.npz"), load_split(data / "validation.npz")
    device = choose_device(params.device)
    torch.manual_seed(params.seed)
    threat = Threat(params.threat.norm, params.threat.eps_255 or 0.0)
    method = build_method(params, threat, train, data / "manifest.json")
    settings = params.model_dump(include={"seed", "threads", "threat", "network", "method", "train"}, by_alias=True)
    environment = describe_environment(device, params.threads)
    splits = {name: sha256_file(data / f"{name}.npz") for name in ("train", "validation")}
    checkpoints = checkpoint_folder(
        {
            "settings": settings,
            "splits": splits,
            "environment": environment,
            "source": source_digest(),
            "lock": lock_digest(),
        }
    )
    training = Training(
        method,
        train,
        validation,
        params.train,
        threat=threat,
        seed=params.seed,
        fabric=make_fabric(device, params.train),
        layout=memory_format(device, params.train),
    )
    print(
        f"{method.title} on {len(train)} images, {training.epochs} epochs of {training.steps} steps, {device.type}",
        flush=True,
    )
    training.run(checkpoints, live=out / "live")
    selected = training.selected
    selection = {
        "rule": "the epoch of the highest PGD-10 accuracy on the validation split; ties: clean accuracy, then epoch",
        "split": "validation",
        "epoch": selected.epoch,
        "images": len(validation),
        "clean": selected.clean,
        "pgd_10": selected.robust,
    }
    write_whole(
        out / "weights.safetensors", save({name: value.contiguous() for name, value in selected.weights.items()})
    )
    write_whole(out / "network.json", canonical_json(describe(method.served())))
    write_whole(
        out / "training.json",
        canonical_json(
            {
                "settings": settings,
                "selection": selection,
                "environment": environment,
                "method": {
                    "name": method.name,
                    "title": method.title,
                    "paper": method.paper,
                    "reconstructed": method.reconstructed,
                },
            }
        ),
    )
    metrics = {"epoch": selected.epoch, "validation_clean": selected.clean, "validation_pgd_10": selected.robust}
    write_whole(out / "metrics.json", canonical_json(metrics))
    save_history(out / "history.csv", training.history)
    remove_checkpoints(checkpoints)


if __name__ == "__main__":
    stage("train", main)
