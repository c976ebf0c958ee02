"""The networks that a method trains beside the served one: a guide, peers, specialists. Kept to be attacked from.

An attacker who knows the method has them, so the evaluation carries their adversarial images over and attacks all at
once. They lie in one safetensors file, whose metadata says how each is built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bundle.digests import write_whole
from bundle.errors import HallmarkError
from pipeline.networks import build_network

FILE = "companions.safetensors"


def save_companions(folder: Path, descriptions: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Writes the file. `descriptions` has each network's description by its name; `weights` are named `NAME.parameter`."""
    content = save(
        {name: value.contiguous() for name, value in weights.items()}, {"networks": json.dumps(dict(descriptions))}
    )
    write_whole(folder / FILE, content)


def load_companions(folder: Path) -> dict[str, nn.Module]:
    """The networks of a folder by name, in eval mode on the CPU; none where there is no file.

    Raises HallmarkError where the file is damaged, or a weight is missing or left over.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with safe_open(path, "pt") as file:
            descriptions = json.loads((file.metadata() or {})["networks"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
        return {name: _built(name, description, weights) for name, description in descriptions.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = shorten(" ".join(str(error).split()), 300, placeholder=" …")
        raise HallmarkError(f"{path}: not readable ({reason}); the stage train makes it (`dvc repro train`)") from None


def _built(name: str, description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    network = build_network(**description)
    prefix = f"{name}."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    network.load_state_dict(own, strict=True)
    return network.eval()
