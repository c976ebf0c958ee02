"""Results with made-up outcomes, and plans as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bundle.table.threats import Threat
from pipeline.experiments.plan import settings_digest
from pipeline.experiments.result import Accuracy, Result, Right
from pipeline.methods import method_class

DIGEST = "a" * 64


def rights(*counts: int, images: int = 20) -> list[Right]:
    """Outcomes in which the first so many images are right."""
    return [np.arange(images) < count for count in counts]


def make_result(
    method: str = "pgd_at",
    seed: int = 0,
    *,
    counts: tuple[int, int, int] = (18, 12, 11),
    threats: tuple[Threat, ...] = (Threat("linf", 8),),
    trained: Threat | None = None,
    images: int = 20,
    data: str = "cifar10",
    split: Any = "test",
    name: str | None = None,
    autoattack: int | None = None,
) -> Result:
    """Images right when clean, under PGD-50 and under margin, the same in every threat."""
    clean, pgd, margin = rights(*counts, images=images)
    found = {"pgd-10": pgd, "pgd-50": pgd, "margin": margin, "margin-20": margin}
    if autoattack is not None:
        found["autoattack"] = rights(autoattack, images=images)[0]
    settings: dict[str, Any] = {
        "seed": seed,
        "threads": 1,
        "attack": {"tier": "quick" if autoattack is None else "standard"},
        "network": {"width": None},
    } | ({"threat": trained.describe()} if trained else {})
    described = method_class(method)
    return Result.model_validate(
        {
            "name": name or method,
            "seed": seed,
            "settings": settings,
            "settings_sha256": settings_digest(settings, split, 10),
            "method": {
                "name": method,
                "title": described.title,
                "paper": described.paper,
                "reconstructed": described.reconstructed,
                "passes": list(described.passes),
            },
            "network": {"name": "resnet18", "classes": 10},
            "parameters": 1000,
            "selection": {"rule": "r", "epoch": 2, "clean": 0.5, "pgd_10": 0.25},
            "data": {
                "name": data,
                "classes": 10,
                "splits": dict.fromkeys(("train", "validation", "test"), DIGEST),
                "counts": {"train": 90, "validation": 10, "test": 40},
            },
            "sample": {
                "split": split,
                "size": images,
                "of": 40,
                "order": "o",
                "seed": 0,
                "shard": 10,
                "index_sha256": DIGEST,
            },
            "threats": [threat.describe() for threat in threats],
            "attacks": [{"threat": threat.name, "name": attack} for threat in threats for attack in found],
            "accuracy": Accuracy.of(clean, {threat.name: found for threat in threats}).model_dump(),
            "flags": [],
            "device": "CPU",
            "environment": {"python": "3.12"},
            "command": "make results ONLY=x",
            "seconds": {"training": 61.5, "attack": 3.0},
            "digests": {"weights": DIGEST, "lock": None, "training_source": DIGEST, "attack_source": [DIGEST]},
        }
    )


def write_plan(path: Path, *entries: str) -> Path:
    """A plan of these YAML entries."""
    path.write_text("".join(f"- {entry}\n" for entry in entries))
    return path


def small(name: str, **more: Any) -> str:
    """An entry that trains in a second or two."""
    settings = {
        "data.name": "digits",
        "data.train_images": 120,
        "data.test_images": 40,
        "network.width": 8,
        "method.name": "fgsm_pgk",
        "train.epochs": 2,
        "attack.tier": "quick",
        "threads": 1,
        "device": "cpu",
        **more.pop("settings", {}),
    }
    inner = ", ".join(f"{key}: {value}" for key, value in settings.items())
    outer = "".join(f", {key}: {value}" for key, value in more.items())
    return f"{{name: {name}, settings: {{{inner}}}{outer}}}"
