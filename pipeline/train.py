"""Stage train: out/data to the weights of the served network, chosen on the validation split."""

from __future__ import annotations

from pathlib import Path

import torch

from bundle.digests import sha256_file
from bundle.threats import Threat
from pipeline.data.split import load_split
from pipeline.environment import describe_environment, source_digest
from pipeline.params import Params
from pipeline.stage import stage
from pipeline.training.build import build_method
from pipeline.training.checkpoints import checkpoint_folder, remove_checkpoints
from pipeline.training.devices import choose_device, make_fabric, memory_format
from pipeline.training.loop import Training
from pipeline.training.record import save_training

DATA, OUT = Path("out/data"), Path("out/train")


def main(params: Params, data: Path = DATA, out: Path = OUT) -> None:
    """Trains, from its checkpoint if there is one, and writes what save_training lists."""
    train, validation = load_split(data / "train.npz"), load_split(data / "validation.npz")
    device = choose_device(params.device)
    threat = Threat(params.threat.norm, params.threat.eps_255 or 0.0)
    settings = params.model_dump(include={"seed", "threads", "threat", "network", "method", "train"}, by_alias=True)
    environment = describe_environment(device, params.threads)
    guide = params.method.get("guide_weights")
    splits = {name: sha256_file(data / f"{name}.npz") for name in ("train", "validation")}
    checkpoints = checkpoint_folder(
        {
            "settings": settings,
            "splits": splits,
            "guide_weights": sha256_file(guide) if guide and Path(guide).is_file() else None,
            "environment": environment,
            "source": source_digest(),
        }
    )
    torch.manual_seed(params.seed)
    training = Training(
        build_method(params, threat, train, data / "manifest.json"),
        train,
        validation,
        params.train,
        threat=threat,
        seed=params.seed,
        fabric=make_fabric(device, params.train),
        layout=memory_format(device, params.train),
    )
    print(
        f"{training.method.title} on {len(train)} images, "
        f"{training.epochs} epochs of {training.steps} steps, {device.type}",
        flush=True,
    )
    training.run(checkpoints, live=out / "live")
    save_training(out, training, settings, environment)
    remove_checkpoints(checkpoints)


if __name__ == "__main__":
    stage("train", main)
