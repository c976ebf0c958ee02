"""A network as a list of steps, read from what it does to its images, so that bounds use the weights that are served.

The network is traced as for its export, down to torch's core ATen operators: however its author spells an operation (a
module, a function, a method, in place), it arrives here under one name.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, InputSpec

from bundle.errors import HallmarkError
from pipeline.certification.layers import Affine, Convolution, Dense, Moved, Scaling
from pipeline.certification.operators import ROWS, Constant, Feature, NotKnownError, layer_of
from pipeline.networks.tracing import place_of_error, place_of_trace, quietly, reason_of

#: Of a tensor's type; does nothing else.
CHECK = torch.ops.aten._assert_tensor_metadata.default


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


def read(network: nn.Module, image: tuple[int, ...], *, relu_only: bool = True) -> Program:
    """The steps of a network for images of shape (C, H, W).

    Known are convolution, linear layers, BatchNorm (always as in eval mode: an affine map of its running statistics),
    constants added to features or multiplied with them, ReLU, the sum of two features, means and sums over pixels,
    average pooling, and whatever only moves values (flattening, zero padding, slices); tanh and sigmoid too unless
    `relu_only`. The steps hold the network's own parameters; what it computes from them alone is a constant, in the
    network's own arithmetic. Raises UnprovableError that names the first operation which is not among them.
    """
    with _evaluated(network):
        traced = _traced(network, image)
        reader = _Reader(network, traced, torch.Size(image), relu_only)
        for node in traced.graph.nodes:
            reader.take(node)
    return reader.program


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Generator[None]:
    """Every module in eval mode, and back."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _traced(network: nn.Module, image: tuple[int, ...]) -> torch.export.ExportedProgram:
    like = next(network.parameters(), torch.zeros(()))
    example = torch.zeros(ROWS, *image, dtype=like.dtype, device=like.device)
    table = torch.export.default_decompositions()
    table.pop(torch.ops.aten.threshold.default, None)  # its parts would not be known as a ReLU
    try:
        with quietly():
            return torch.export.export(network, (example,), strict=False).run_decompositions(table)
    except Exception as error:  # tracing runs the network's own code with stand-ins
        raise UnprovableError(
            f"nothing proved: the network's steps cannot be read ({reason_of(error)}){place_of_error(error)}"
        ) from None


class _Reader:
    """Turns the nodes of a traced graph into steps, one after another."""

    def __init__(
        self, network: nn.Module, traced: torch.export.ExportedProgram, image: torch.Size, relu_only: bool
    ) -> None:
        self.relu_only, self.program = relu_only, Program([], image)
        self.features: dict[fx.Node, Feature] = {}
        self.constants: dict[fx.Node, Constant] = {}
        self.sources = {item.arg.name: _source(network, traced, item) for item in traced.graph_signature.input_specs}

    def take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            source = self.sources[node.name]
            if source is None:
                self.features[node] = Feature(0, self.program.image, node.meta["val"].dtype, 0)
            else:
                self.constants[node] = source
        elif node.op == "output":
            self._end(node)
        elif any(item in self.features for item in node.all_input_nodes):
            self._add(node)
        else:
            self.constants[node] = self._computed(node)

    def _end(self, node: fx.Node) -> None:
        (returned,) = node.args
        if not isinstance(returned, (tuple, list)) or len(returned) != 1:
            raise UnprovableError("nothing proved: the network returns more than its logits")
        if returned[0] not in self.features:
            raise UnprovableError("nothing proved: what the network returns does not depend on the image")
        del self.program.steps[self.features[returned[0]].node :]

    def _computed(self, node: fx.Node) -> Constant:
        """What the network makes of constants, anew whenever it is used."""
        function = node.target
        if not callable(function) or torch.Tag.nondeterministic_seeded in getattr(function, "tags", ()):
            raise self._unknown(node)

        def value() -> Any:
            arguments, named = _with_values(node, lambda item: self.constants[item].value())
            return function(*arguments, **named)

        return Constant(value)

    def _add(self, node: fx.Node) -> None:
        if node.target is CHECK or (node.target is operator.getitem and node.args[1] == 0):
            # The first of what BatchNorm returns is its features.
            self.features[node] = self.features[node.all_input_nodes[0]]
            return
        arguments, named = _with_values(node, lambda item: self.features.get(item) or self.constants[item])
        try:
            found = layer_of(node.target, arguments, named, relu_only=self.relu_only)
        except NotKnownError:
            raise self._unknown(node) from None
        if isinstance(found, Constant):
            self.constants[node] = found
            return
        inputs = [item for item in arguments if isinstance(item, Feature)]
        value = node.meta["val"]
        shape = (value[0] if isinstance(value, (tuple, list)) else value).shape[1:]
        self.program.steps.append(Step(found, tuple(item.node for item in inputs), shape))
        self.features[node] = Feature(len(self.program.steps), shape, inputs[0].dtype, _terms(found, inputs[0]))

    def _unknown(self, node: fx.Node) -> UnprovableError:
        layers = [(path, str(kind)) for path, kind in (node.meta.get("nn_module_stack") or {}).values()]
        path, kind = layers[-1] if layers else ("", "")
        called = str(node.meta.get("torch_fn", ("", getattr(node.target, "__name__", node.target)))[1])
        name = kind.rpartition(".")[2] if kind.startswith("torch.nn.") else called.rpartition(".")[2].strip("_")
        place = place_of_trace(node.meta.get("stack_trace")) or (f" in layer {path}" if path else "")
        return UnprovableError(f"nothing proved: no bounds are known through {name}{place}")


def _with_values(node: fx.Node, value: Callable[[fx.Node], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A node's arguments, those by position and those by name, with a value in place of every node."""
    return fx.map_arg((node.args, dict(node.kwargs)), value)


def _terms(layer: object, before: Feature) -> int:
    """The products that a factor after this layer may be folded into."""
    if isinstance(layer, (Convolution, Dense, Scaling)):
        return layer.terms
    return before.terms if isinstance(layer, Moved) else 0


def _source(network: nn.Module, traced: torch.export.ExportedProgram, item: InputSpec) -> Constant | None:
    """The parameter, buffer or constant behind an input of the graph; None for the images."""
    if item.kind is InputKind.USER_INPUT:
        return None
    target = str(item.target)
    if item.kind is InputKind.CONSTANT_TENSOR:
        return Constant(lambda: traced.constants[target])
    owner, _, name = target.rpartition(".")
    return Constant(lambda: getattr(network.get_submodule(owner), name))
