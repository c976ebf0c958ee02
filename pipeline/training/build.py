"""From resolved settings to a method with its networks."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from bundle.errors import HallmarkError
from bundle.threats import Threat
from pipeline.data.split import Split
from pipeline.methods import Method, Task, method_class
from pipeline.networks import build_network
from pipeline.params import Params


def build_method(params: Params, threat: Threat, train: Split, manifest: Path) -> Method:
    """The method named by the settings, with fresh networks (torch's global generator draws their weights)."""
    try:
        classes = len(json.loads(manifest.read_text(encoding="utf-8"))["classes"])
    except (OSError, ValueError, KeyError):
        raise HallmarkError(
            f"{manifest}: is missing or no manifest; the stage prepare makes it (`dvc repro prepare`)"
        ) from None
    height, width, channels = train.images.shape[1:]
    network = params.network
    names = {"target": (network.name, network.width), "guide": (network.guide, network.guide_width)}

    def build(role: str) -> nn.Module:
        name, first_width = names[role]
        assert name is not None  # resolved settings
        return build_network(name, classes=classes, channels=channels, width=first_width)

    method = method_class(params.method["name"])
    settings = method.Settings.model_validate({key: value for key, value in params.method.items() if key != "name"})
    return method(settings, Task(threat, classes, len(train), (channels, height, width)), build)
