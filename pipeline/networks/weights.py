"""Weights from elsewhere: safetensors, or a torch file with nothing but tensors in it, put into a network by name."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from pipeline.networks.registry import NetworkError

#: Where training scripts put the weights among other things.
SECTIONS = ("state_dict", "model_state_dict", "model", "net")
#: What wrappers put before every name.
PREFIXES = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
NAMED = 3


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and what was left out or taken off on the way, a sentence each."""

    tensors: dict[str, Tensor]
    remarks: list[str] = field(default_factory=list)


def read_weights(path: str | Path) -> Weights:
    """Reads a .safetensors file, or a torch file of a state dict (also below `state_dict` and the like).

    Nothing in the file is executed: what needs pickle's code is refused. Raises NetworkError in one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file of weights")
    if path.suffix == ".safetensors":
        try:
            return Weights(load(path.read_bytes()))
        except SafetensorError as error:
            raise NetworkError(f"{path}: is not a safetensors file ({error})") from None
    remarks: list[str] = []
    tensors = _without_prefix(_section(_unpickled(path), path, remarks), path, remarks)
    return Weights(tensors, remarks)


def put_in(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads weights by name; raises NetworkError that names those that are missing, left over or of another shape.

    A weight that the file lacks because it is another one's (tied weights) counts as there.
    """
    own = network.state_dict()
    weights = dict(weights)
    for name, value in own.items():
        if name not in weights and (twin := _tied(name, value, own, weights)):
            weights[name] = weights[twin]
    # BatchNorm's counter of batches decides no answer, and older files lack it.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    if missing or unexpected:
        said = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(unexpected)} besides"] * bool(unexpected)
        raise NetworkError(f"{where}: does not fit the network: it {' and '.join(said)}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)}, the network's {tuple(own[name].shape)}"
            raise NetworkError(f"{where}: does not fit the network: {name} is {shapes}")
    network.load_state_dict(weights, strict=False)


def _tied(name: str, value: Tensor, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    return next(
        (
            other
            for other in weights
            if other in own and other != name and own[other].numel() and own[other].is_set_to(value)
        ),
        None,
    )


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise NetworkError(
            f"{path}: holds more than tensors, and reading it would run code from the file; save the weights alone: "
            "torch.save(network.state_dict(), FILE), or as safetensors"
        ) from None
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise NetworkError(
            f"{path}: is not a file that torch.save wrote ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None


def _section(content: Any, path: Path, remarks: list[str]) -> dict[str, Tensor]:
    """The state dict itself, or the one that lies in a section of the file."""
    if isinstance(content, Mapping):
        for section in SECTIONS:
            if isinstance(content.get(section), Mapping):
                others = [str(name) for name in content if name != section]
                left = f"; not read: {_listed(others)}" if others else ""
                remarks.append(f"the weights are those under {section!r} in {path.name}{left}")
                content = content[section]
                break
    if not isinstance(content, Mapping) or not content:
        raise NetworkError(f"{path}: must hold a state dict, tensors by name; holds a {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise NetworkError(f"{path}: must hold a state dict, tensors by name; {name} is a {type(value).__name__}")
    return {str(name): value for name, value in content.items()}


def _without_prefix(tensors: dict[str, Tensor], path: Path, remarks: list[str]) -> dict[str, Tensor]:
    for prefix, wrapper in PREFIXES.items():
        if all(name.startswith(prefix) for name in tensors):
            remarks.append(f"{prefix!r} ({wrapper}) was taken off every name in {path.name}")
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
