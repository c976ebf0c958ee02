"""What a finished training leaves: weights, the network's description, settings, selection, metrics, history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save

from bundle.digests import canonical_json, write_whole
from bundle.layout import NETWORK, WEIGHTS
from pipeline.networks import describe
from pipeline.networks.serialisation import save_companions
from pipeline.training.loop import Training
from pipeline.training.progress import save_history

SELECTION_RULES = {
    "pgd_10": "the epoch of the highest PGD-10 accuracy on the validation split; ties: clean accuracy, then epoch",
    "clean": "the epoch of the highest clean accuracy on the validation split; ties: PGD-10 accuracy, then epoch",
}
WARMED_UP = "; of the epochs that ended with eps at its full size"


def save_training(out: Path, training: Training, settings: dict[str, Any], environment: dict[str, Any]) -> None:
    """Writes weights.safetensors, network.json, companions.safetensors, training.json, metrics.json and history.csv."""
    method, selected = training.method, training.selected
    weights = {name: value.contiguous() for name, value in selected.weights.items()}
    selection = {
        "rule": SELECTION_RULES[selected.by] + (WARMED_UP if selected.warm and training.settings.eps_warmup else ""),
        "split": "validation",
        "epoch": selected.epoch,
        "images": len(training.validation[1]),
        "clean": selected.clean,
        "pgd_10": selected.robust,
    }
    record = {
        "settings": settings,
        "selection": selection,
        "overfitting": training.alarm.record(),
        "environment": environment,
        "parameters": sum(parameter.numel() for parameter in method.served().parameters()),
        "method": {key: getattr(method, key) for key in ("name", "title", "paper", "reconstructed")},
    }
    metrics = {"epoch": selected.epoch, "validation_clean": selected.clean, "validation_pgd_10": selected.robust}
    write_whole(out / WEIGHTS, save(weights))
    write_whole(out / NETWORK, canonical_json(describe(method.served())))
    companions = {name: describe(network) for name, network in method.companions().items()}
    save_companions(out, companions, selected.companions)
    write_whole(out / "training.json", canonical_json(record))
    write_whole(out / "metrics.json", canonical_json(metrics))
    save_history(out / "history.csv", training.history)
