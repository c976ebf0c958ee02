"""Which call made a tensor, and which took its gradient, with the line of the network's own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pipeline.networks.tracing import place_of_call


class Call(NamedTuple):
    """A call by its name, and its place in the network's code (see tracing)."""

    name: str
    place: str

    def __str__(self) -> str:
        return self.name + self.place


#: Calls that turn a tensor into something else, for which there are no gradients.
LEAVING = ("array", "bool", "float", "int", "item", "numpy", "tolist")


class Watch(TorchFunctionMode):
    """Around a forward pass in which nothing but the images requires a gradient; tensors are kept while it lives."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Tensor] = []
        self._made: dict[int, Call] = {}
        self._cut: dict[int, Call] = {}
        self._last_cut: Call | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs, call = _tensors((args, kwargs)), _tensors(result), Call(_name(func), place_of_call())
        alive, cut = any(item.requires_grad for item in inputs), [c for i in inputs if (c := self._cut.get(id(i)))]
        if alive and not outputs and call.name in LEAVING:
            self._last_cut = call
        for output in outputs:
            self._kept.append(output)
            self._made[id(output)] = call
            if not output.requires_grad and (alive or cut):
                self._last_cut = self._cut[id(output)] = cut[0] if cut else self._cutting(call)
        return result

    @staticmethod
    def _cutting(call: Call) -> Call:
        return call if torch.is_grad_enabled() else Call(f"torch.no_grad() around {call.name}", call.place)

    def made(self, tensor: Tensor) -> Call | None:
        """The call that made a tensor."""
        return self._made.get(id(tensor))

    def cut(self, tensor: Tensor) -> Call | None:
        """The call that took the gradient of a tensor, or of the last one that lost it where the tensor came otherwise."""
        return self._cut.get(id(tensor)) or self._last_cut


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", str(function))
    return name.strip("_") if name != "__get__" else getattr(getattr(function, "__self__", None), "__name__", name)
