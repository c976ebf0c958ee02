"""A network as a list of steps, read from its own modules, so that bounds use the weights that are served."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bundle.errors import HallmarkError
from pipeline.certification.layers import Affine, Cells, Convolution, Dense, Mean, Reshape, Scaling
from pipeline.networks.blocks import Normalise

#: Functions that never fall, by every name that a network may call them.
MONOTONE: dict[object, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys((torch.relu, functional.relu, nn.ReLU, "relu"), torch.relu),
    **dict.fromkeys((torch.tanh, functional.tanh, nn.Tanh, "tanh"), torch.tanh),
    **dict.fromkeys((torch.sigmoid, functional.sigmoid, nn.Sigmoid, "sigmoid"), torch.sigmoid),
}
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)  # in eval mode they change nothing
LEAVES = (Normalise, nn.BatchNorm1d, nn.BatchNorm2d)


class UnprovableError(HallmarkError):
    """Nothing can be proved about this network here; the message says why in one sentence."""


class Step(NamedTuple):
    """One step: `layer` is an affine map, a function that never falls, or None for the sum of two inputs.

    `inputs` and the step itself are numbers of nodes: 0 is the image, step i makes node i + 1. `shape` is without N.
    """

    layer: Affine | Callable[[Tensor], Tensor] | None
    inputs: tuple[int, ...]
    shape: torch.Size


class Program(NamedTuple):
    """The steps of a network in their order, and the shape of an image."""

    steps: list[Step]
    image: torch.Size

    def shape(self, node: int) -> torch.Size:
        """The shape of a node, without N."""
        return self.steps[node - 1].shape if node else self.image


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


def read(network: nn.Module, image: tuple[int, ...], *, relu_only: bool = True) -> Program:
    """The steps of a network for images of shape (C, H, W).

    Known are nn.Conv2d, nn.Linear, BatchNorm (always as in eval mode: an affine map of its running statistics),
    Normalise, ReLU, the sum of two features, the mean over all pixels, adaptive average pooling and flattening; tanh and
    sigmoid too unless `relu_only`. The steps hold the network's own modules. Raises UnprovableError that names the
    first layer which is not among them.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception as error:  # tracing runs the network's own code with stand-ins
        raise UnprovableError(
            f"nothing proved: the network's steps cannot be read ({type(error).__name__}: {_line(error)})"
        ) from None
    reader = _Reader(dict(network.named_modules()), torch.Size(image), relu_only)
    for node in graph.nodes:
        reader.take(node)
    return reader.program


class _Reader:
    """Turns the nodes of a traced graph into steps, one after another."""

    def __init__(self, modules: Mapping[str, nn.Module], image: torch.Size, relu_only: bool) -> None:
        self.modules, self.relu_only = modules, relu_only
        self.program = Program([], image)
        self.numbers: dict[fx.Node, int] = {}

    def take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self.numbers:
                raise UnprovableError("nothing proved: the network takes more than one input")
            self.numbers[node] = 0
        elif node.op == "output":
            if node.args != (self._last(),):
                raise UnprovableError("nothing proved: the network returns more than its last layer's logits")
        else:
            inputs = [self.numbers[item] for item in node.all_input_nodes if item in self.numbers]
            layer = self._layer(node, inputs)
            self.numbers[node] = inputs[0] if isinstance(layer, NothingToDo) else self._add(layer, inputs, node)

    def _last(self) -> fx.Node:
        return list(self.numbers)[-1]

    def _add(self, layer: object, inputs: list[int], node: fx.Node) -> int:
        shapes = [self.program.shape(number) for number in inputs]
        if layer is None:
            # x + x has one input node, and so has x + 1.
            if not all(isinstance(item, fx.Node) for item in node.args) or len(set(shapes)) != 1 or node.kwargs:
                raise self._unknown(node)
            inputs = inputs * (len(node.args) // len(inputs))
            shape = shapes[0]
        else:
            shape = self._shape(layer, shapes[0], node)
        self.program.steps.append(Step(layer, tuple(inputs), shape))  # type: ignore[arg-type]  # `_layer` gives one of the kinds that a step has
        return len(self.program.steps)

    def _shape(self, layer: object, shape: torch.Size, node: fx.Node) -> torch.Size:
        assert callable(layer)
        try:
            with torch.no_grad():
                return layer(torch.zeros(1, *shape, device=self._device())).shape[1:]
        except RuntimeError as error:
            raise UnprovableError(f"nothing proved: {node.name} does not fit its input ({_line(error)})") from None

    def _device(self) -> torch.device:
        for module in self.modules.values():
            for value in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                return value.device
        return torch.device("cpu")

    def _layer(self, node: fx.Node, inputs: list[int]) -> object:
        """An Affine, a function that never falls, None for a sum, or NothingToDo."""
        target: object = self.modules[str(node.target)] if node.op == "call_module" else node.target
        kind: object = type(target) if isinstance(target, nn.Module) else target
        if node.op != "get_attr" and inputs:
            if kind in MONOTONE and (not self.relu_only or MONOTONE[kind] is torch.relu):
                return MONOTONE[kind]
            if kind in (operator.add, operator.iadd, torch.add, "add", "add_"):
                return None
            if isinstance(target, NOTHING):
                return NothingToDo()
            layer = self._affine(node, target, self.program.shape(inputs[0]), inputs[0])
            if layer is not None:
                return layer
        raise self._unknown(node)

    def _affine(self, node: fx.Node, target: object, shape: torch.Size, before: int) -> Affine | None:
        match target:
            case nn.Conv2d(padding_mode="zeros") if not isinstance(target.padding, str):
                return Convolution(target)
            case nn.Linear() if len(shape) == 1:
                return Dense(target)
            case Normalise():
                return Scaling(target)
            case nn.BatchNorm1d() | nn.BatchNorm2d() if target.running_mean is not None:
                return Scaling(target, self._terms(before))
            case nn.Flatten(start_dim=1, end_dim=-1):
                return Reshape()
            case nn.AdaptiveAvgPool2d():
                return self._cells(target.output_size, shape)
            case _ if target in (torch.flatten, "flatten") and _options(node, "start_dim", "end_dim") in (
                (1,),
                (1, -1),
            ):
                return Reshape()
            case _ if target in (torch.mean, "mean") and len(shape) == 3:
                dims, keep = (*_options(node, "dim", "keepdim"), False)[:2]
                if sorted(d % 4 for d in (dims if isinstance(dims, (tuple, list)) else [dims])) == [2, 3]:
                    return Mean(shape[-2] * shape[-1], keep=bool(keep))
        return None

    def _terms(self, node: int) -> int:
        layer = self.program.steps[node - 1].layer if node else None
        return layer.terms if isinstance(layer, (Convolution, Dense)) else 0

    @staticmethod
    def _cells(size: object, shape: torch.Size) -> Affine | None:
        sizes = (size, size) if isinstance(size, int) else size
        if not isinstance(sizes, tuple) or not all(isinstance(side, int) for side in sizes) or len(shape) != 3:
            return None
        return Mean(shape[-2] * shape[-1], keep=True) if sizes == (1, 1) else Cells(sizes, shape)

    def _unknown(self, node: fx.Node) -> UnprovableError:
        called = self.modules[str(node.target)] if node.op == "call_module" else node.target
        name = type(called).__name__ if isinstance(called, nn.Module) else getattr(called, "__name__", str(called))
        return UnprovableError(f"nothing proved: no bounds are known through {name} (step {node.name} of the network)")


class NothingToDo:
    """A module that changes nothing in eval mode."""


def _options(node: fx.Node, *names: str) -> tuple[object, ...]:
    """The arguments after the input, by position or by name, as far as they are given."""
    given = dict(zip(names, node.args[1:], strict=False)) | node.kwargs
    return tuple(given[name] for name in names if name in given)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
