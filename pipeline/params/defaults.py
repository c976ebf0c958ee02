"""What params.yaml leaves out, filled in by three owners: the method, the data, the schedule."""

from __future__ import annotations

from typing import Any

DATA_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "threat": {"eps_255": 32.0},
        "network": {"name": "preact_resnet8", "guide": "preact_resnet8"},
        "train": {"schedule": "digits", "augment": "shift"},
        "attack": {"images": 200},
        "certify": {"early_end": False},
    },
    "cifar10": {
        "threat": {"eps_255": 8.0},
        "network": {"name": "resnet18", "guide": "guide_resnet18"},
        "train": {"schedule": "paper", "augment": "crop_flip"},
        "attack": {"images": 1000, "eps_255": [8.0, 16.0]},
        "certify": {"early_end": True},
    },
    "folder": {
        "data": {"image_size": 32, "channels": 3},
        "threat": {"eps_255": 8.0},
        "network": {"name": "preact_resnet18", "guide": "resnet18"},
        # A mirrored letter, digit or road sign is another one.
        "train": {"schedule": "paper", "augment": "crop"},
        "attack": {"images": 1000},
        "certify": {"early_end": True},
    },
}
#: The radii of the other norms, where l∞'s is DATA_DEFAULTS': l2 and l1 for images in [0, 1].
RADII: dict[str, dict[str, float]] = {
    "digits": {"l2": 0.5, "l1": 1.0},
    "cifar10": {"l2": 0.5, "l1": 12.0},
    "cifar100": {"l2": 0.5, "l1": 12.0},
    "tiny_imagenet": {"l2": 0.5, "l1": 12.0},
    "folder": {"l2": 0.5, "l1": 12.0},
}
DATA_DEFAULTS["cifar100"] = DATA_DEFAULTS["cifar10"]
DATA_DEFAULTS["tiny_imagenet"] = {
    **DATA_DEFAULTS["cifar10"],
    "network": {"name": "preact_resnet18", "guide": "resnet18"},
}


#: For 8×8 digits on two CPU cores: a minute or two.
DIGITS_SCHEDULE: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 32,
    "lr": 0.1,
    "lr_shape": "one_cycle",
    "warmup": 0.3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "averaging": "none",
    "ema_decay": 0.99,
}


#: The same for every method, so that a table compares methods; the FGSM-PGK line keeps its averaging. Settings of Pang et al.
#: 2021, arXiv 2010.00467.
COMMON_SCHEDULE: dict[str, Any] = {
    "epochs": 110,
    "batch_size": 128,
    "lr": 0.1,
    "lr_shape": "piecewise",
    "milestones": [100 / 110, 105 / 110],
    "warmup": 0.0,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "averaging": "none",
    "ema_decay": 0.999,
}
