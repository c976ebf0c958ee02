"""BatchNorm folded into the convolution before it, for as long as its statistics stand still.

In eval mode BatchNorm is an affine map of each channel, so that it and the convolution before it are one convolution
with other weights (Jacob et al. 2018, arXiv 1712.05877, section 3.2): w · γ/√(σ² + ε), and β − μ · γ/√(σ² + ε) as bias.
An attack that crafts images against fixed weights computes them once and saves every BatchNorm of all of its passes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from pipeline.networks.blocks import Cells, Normalise


class FoldablePair(NamedTuple):
    """A convolution, and the BatchNorm that alone reads what it answers."""

    convolution: nn.Conv2d
    norm: nn.BatchNorm2d


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # They decide by the images' type and size, which a trace has not.
        return isinstance(m, Cells | Normalise) or super().is_leaf_module(m, module_qualified_name)


def foldable_pairs(network: nn.Module) -> list[FoldablePair]:
    """The network's pairs in the order of its forward pass; none where its forward pass cannot be traced."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a network's code does with a stand-in for images
        return []
    modules = dict(network.named_modules())
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    found: list[FoldablePair] = []
    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or list(source.users) != [node]:
            continue
        before, after = modules[str(source.target)], modules[str(node.target)]
        once = called.count(str(source.target)) == called.count(str(node.target)) == 1
        if (
            once
            and type(before) is nn.Conv2d
            and type(after) is nn.BatchNorm2d
            and after.affine
            and after.track_running_stats
        ):
            found.append(FoldablePair(before, after))
    return found


_registered: WeakKeyDictionary[nn.Module, list[FoldablePair]] = WeakKeyDictionary()


def fold_while_crafting(networks: Iterable[nn.Module]) -> None:
    """From now on `folded` folds these networks; it leaves others as they are."""
    for network in networks:
        if network not in _registered:
            _registered[network] = foldable_pairs(network)


@contextmanager
def folded(*networks: nn.Module) -> Generator[None]:
    """The registered ones of these networks, all in eval mode, without their BatchNorms inside.

    Their weights get no gradient through passes inside; images do. Weights must not change before the exit.
    """
    with ExitStack() as stack:
        for network in networks:
            if pairs := _registered.get(network):
                _replace(pairs, stack)
        yield


def _replace(pairs: list[FoldablePair], stack: ExitStack) -> None:
    for convolution, norm in pairs:
        _override(convolution, _Convolution(convolution, *folded_weights(convolution, norm)), stack)
        _override(norm, _identity, stack)


@torch.no_grad()
def folded_weights(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (O, I, h, w) and bias (O,) of the one convolution that both are in eval mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    mean = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    return convolution.weight * scale.view(-1, 1, 1, 1), norm.bias - mean * scale


class _Convolution:
    """The convolution's forward pass with other weights, in autocast's type from the start: it casts no such weights."""

    def __init__(self, convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
        kind = weight.device.type
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if casts else weight.dtype
        self.convolution, self.weight, self.bias = convolution, weight.to(dtype), bias.to(dtype)

    def __call__(self, features: Tensor) -> Tensor:
        return self.convolution._conv_forward(features, self.weight, self.bias)  # pyright: ignore[reportPrivateUsage]


def _identity(features: Tensor) -> Tensor:
    return features


def _override(module: nn.Module, forward: Callable[[Tensor], Tensor], stack: ExitStack) -> None:
    """The instance's own `forward` hides the class's."""
    module.forward = forward
    stack.callback(module.__dict__.pop, "forward")
