"""Networks that were written elsewhere: a factory of the user's own code, or torchvision's classifiers."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.networks.blocks import Normalise
from pipeline.networks.names import NetworkError, normalisation, whole_number

TORCHVISION = "torchvision"
KINDS = ("factory", TORCHVISION)


class External(nn.Module):
    """A network from elsewhere with its normalisation before it: images in [0, 1], (N, C, H, W), to what it returns.

    `spec` is the content of network.json; the weights are named `network.` and `normalise.`. Where it names `outputs`,
    only these of the network's are returned, in this order.
    """

    outputs: Tensor

    def __init__(self, network: nn.Module, spec: dict[str, Any]) -> None:
        super().__init__()
        self.normalise = Normalise(spec["mean"], spec["std"])
        self.network = network
        self.spec = spec
        if "outputs" in spec:
            self.register_buffer("outputs", torch.tensor(spec["outputs"]), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(self.normalise(images))
        if "outputs" not in self.spec:
            return logits
        if logits.ndim != 2 or max(self.spec["outputs"]) >= logits.shape[1]:
            raise NetworkError(
                f"network outputs: must be numbers of the network's outputs, from 0; it returned {tuple(logits.shape)}, "
                f"asked for were {self.spec['outputs']}"
            )
        return logits.index_select(1, self.outputs)


def _again(spec: dict[str, Any], weights: bytes, training: bool) -> External:
    network = build_external(**spec)
    network.load_state_dict(load(weights), strict=True)
    return network.train(training)


def _reduced(network: External) -> tuple[Callable[..., External], tuple[Any, ...]]:
    state = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    return _again, (network.spec, save(state), network.training)


# Code from elsewhere may hold what cannot be pickled (a lambda): another process makes the network anew.
ForkingPickler.register(External, _reduced)


def is_external(description: Mapping[str, Any]) -> bool:
    """Whether a network's description names a factory or a network of torchvision."""
    return any(kind in description for kind in KINDS)


def build_external(
    *,
    classes: int,
    channels: int,
    factory: str | None = None,
    torchvision: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    outputs: Sequence[int] | None = None,
) -> External:
    """Builds a network as its description says; a factory may bring weights, torchvision's are fresh.

    Parameters
    ----------
    classes, channels : number of logits K and channels C of the images.
    factory : `module:function`, a function of an importable module that returns an nn.Module. It is called: whoever
        reads a description that others wrote must have asked for this very factory.
    torchvision : the name of a classifier of torchvision; it is built with weights=None and K classes.
        With `outputs` it is built with all that the arguments or torchvision's own default say.
    arguments : keyword arguments of the factory, or of torchvision's network.
    mean, std : subtracted and divided by before the network, one value per channel, in units of images in [0, 1]. None
        leaves images in [0, 1] as they are.
    outputs : which of the network's outputs are the classes, by number from 0, in the order of the classes; None takes
        all.

    Raises NetworkError in one sentence where it cannot be built. torch's global generator is left as it was.
    """
    spec: dict[str, Any] = {
        "classes": whole_number("classes", classes, least=2),
        "channels": whole_number("channels", channels, least=1),
        "arguments": dict(arguments or {}),
    }
    spec["mean"], spec["std"] = normalisation(mean, std, spec["channels"])
    if outputs is not None:
        spec["outputs"] = _chosen(outputs, spec["classes"])
    if (factory is None) == (torchvision is None):
        raise NetworkError("network: must name either a factory or a network of torchvision")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if factory is not None:
            network = _made(factory, spec["arguments"])
            return External(network, {"factory": factory, **spec})
        own = {"num_classes": spec["classes"]} if outputs is None else {}
        network = _torchvision(str(torchvision), own | spec["arguments"])
        return External(network, {TORCHVISION: torchvision, **spec})


def published_arguments(name: str) -> dict[str, Any]:
    """What a network of torchvision must be built with so that its published weights mean what they meant in training.

    Its builders set this themselves, but only where they download the weights.
    """
    takes = inspect.signature(typing.get_type_hints(_builder(name))["return"]).parameters
    return {"transform_input": True} if "transform_input" in takes else {}


def _chosen(outputs: Sequence[int], classes: int) -> list[int]:
    numbers = [whole_number("outputs", number, least=0) for number in outputs]
    if len(numbers) != classes or len(set(numbers)) != classes:
        raise NetworkError(
            f"network outputs: must be {classes} different numbers, one for each class, got {list(outputs)}"
        )
    return numbers


def _made(factory: str, arguments: dict[str, Any]) -> nn.Module:
    function = find_factory(factory)
    try:
        network = function(**arguments)
    except Exception as error:  # whatever the user's code raises
        raise NetworkError(f"{factory}: failed with {type(error).__name__}: {_line(error)}") from None
    if not isinstance(network, nn.Module):
        raise NetworkError(f"{factory}: must return a torch.nn.Module, returned a {type(network).__name__}")
    return network


def find_factory(factory: str) -> Callable[..., Any]:
    """The function of `module:function`; modules of the current folder are found. Raises NetworkError."""
    module, colon, name = factory.partition(":")
    if not colon or not module or not name.isidentifier():
        raise NetworkError(f"factory {factory!r}: must be module:function")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise NetworkError(
            f"{factory}: there is no module {error.name}; the network's code must be importable from this folder"
        ) from None
    except AttributeError:
        raise NetworkError(f"{factory}: the module {module} has no {name}") from None
    except Exception as error:  # whatever the user's module raises while it is imported
        raise NetworkError(
            f"{factory}: importing {module} failed with {type(error).__name__}: {_line(error)}"
        ) from None
    if not callable(function):
        raise NetworkError(f"{factory}: is not a function")
    return function


def _torchvision(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        return _builder(name)(weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"torchvision:{name}: {_line(error)}") from None


def _builder(name: str) -> Callable[..., nn.Module]:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names)}"
        raise NetworkError(f"torchvision:{name}: torchvision has no such classifier; {hint}")
    return models.get_model_builder(name)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
