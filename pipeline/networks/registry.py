"""How a network is built from its name, and described again.

Importing this file does not import torch: whoever only checks a name should not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.networks.names import ARCHITECTURES, NetworkError, normalisation, whole_number
from pipeline.params.reading import one_of

if TYPE_CHECKING:
    from torch import nn


def build_network(
    name: str,
    *,
    classes: int,
    channels: int,
    width: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Builds a network with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    name : one of `network_names()`.
    classes : number of logits K, at least 2.
    channels : channels C of the images, at least 1.
    width : channels of the first convolution, at least 1; None is the published width. In the wide networks the stages
        have 10, 20 and 40 times as many, so `width=4` of wide_resnet_34_10 is a narrow network with 40, 80 and 160.
    mean, std : one value per channel, in units of the images: mean in [0, 1], std in (0, 1]. None means 0 and 1, which is
        no normalisation.

    Returns a module from float images in [0, 1], (N, C, H, W), to logits (N, K). Sides of 8 pixels and more fit every
    network. The module's `spec` is what `describe` returns. Raises NetworkError for a value that cannot be built.
    """
    if name not in ARCHITECTURES:
        raise NetworkError(f"network name: {one_of(list(ARCHITECTURES), name)}")
    plan = ARCHITECTURES[name]
    spec: dict[str, Any] = {
        "name": name,
        "classes": whole_number("classes", classes, least=2),
        "channels": whole_number("channels", channels, least=1),
        "width": plan.width if width is None else whole_number("width", width, least=1),
    }
    spec["mean"], spec["std"] = normalisation(mean, std, spec["channels"])
    network = _architecture(plan.family)(
        plan.stages(spec["width"]), **{key: spec[key] for key in spec if key != "name"}
    )
    network.spec = spec
    return network


def rebuild(description: Mapping[str, Any]) -> nn.Module:
    """The network of a network.json, with fresh weights: one of the names here, a factory's, or torchvision's.

    A factory is code that runs, so a description that others wrote must be checked first. Raises NetworkError.
    """
    from pipeline.networks.external import build_external, is_external

    return build_external(**description) if is_external(description) else build_network(**description)


def describe(network: nn.Module) -> dict[str, Any]:
    """The content of network.json: name (or factory, or torchvision's name), classes, channels, and every argument.

    `rebuild(describe(network))` has the same shape, so the weights load into it with strict=True. Raises NetworkError
    for a module that neither `build_network` nor `build_external` made.
    """
    spec = getattr(network, "spec", None)
    if not isinstance(spec, dict):
        raise NetworkError(f"describe: needs a network that build_network made, got a {type(network).__name__}")
    return {**spec, "mean": list(spec["mean"]), "std": list(spec["std"])}


def _architecture(family: str) -> type[Any]:
    from pipeline.networks.plain import CNN, PlainNetwork
    from pipeline.networks.resnets import PreActResNet, ResNet, WideResNet

    families = {
        "resnet": ResNet,
        "preact_resnet": PreActResNet,
        "wide_resnet": WideResNet,
        "plain": PlainNetwork,
        "cnn": CNN,
    }
    return families[family]
