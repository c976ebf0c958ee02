"""What every part behind a network relies on, checked before anything long is run with it.

Which call made a tensor, and which took its gradient, with the line of the network's own code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pipeline.networks.names import NetworkError
from pipeline.networks.tracing import place_of_call, place_of_error

#: Two batches of other sizes may round otherwise; as a fraction of the largest logit.
ROUNDING = 1e-3
PROBES = 4
#: Images on which every answer must look like probabilities before the network is said to return them.
MANY = 32
#: How far float32 may take the sum of a thousand probabilities from 1.
SUM = 1e-4
#: Contrasts at which probabilities are probabilities still, and logits that happened to look like them are not.
CONTRASTS = (-1e2, 1e4)


def check_network(network: nn.Module, images: NDArray[np.uint8], classes: int) -> None:
    """Checks that a network in eval mode keeps the contract: float images in [0, 1] to logits (N, classes).

    `images` are some of the data, uint8 (N, H, W, C), at least one. Checked on them: it takes their shape, in batches of
    any size; the logits are float32, finite, as many as there are classes; a second pass gives the same; no image's
    answer depends on the others of its batch; gradients reach the images; what is returned are no probabilities. Raises
    NetworkError with the first that does not hold.
    """
    if training := [name or "the network" for name, module in network.named_modules() if module.training]:
        raise NetworkError(f"network: {training[0]} stays in training mode after eval()")
    if scripted := [name for name, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)]:
        raise NetworkError(
            f"network: {scripted[0] or 'the network'} is a TorchScript module, which cannot be exported; return the "
            "nn.Module that it was made of"
        )
    probes = _unit(images[:PROBES])
    logits = _logits(network, probes)
    if logits.shape != (len(probes), classes):
        raise NetworkError(
            f"network: must return logits (N, {classes}), one for each class of the data; for {len(probes)} images it "
            f"returned {tuple(logits.shape)}{_way_out(logits, classes)}"
        )
    if logits.dtype != torch.float32:
        raise NetworkError(f"network: must return float32, returned {logits.dtype}; call .float() in the factory")
    if not torch.isfinite(logits).all():
        raise NetworkError("network: must return finite logits, returned NaN or infinity for images of the data")
    if not torch.equal(logits, _logits(network, probes)):
        raise NetworkError(
            "network: must be deterministic, a second pass over the same images gave other logits; noise or dropout is "
            "on in eval mode"
        )
    alone = torch.cat([_logits(network, probe[None]) for probe in probes])
    if (alone - logits).abs().max() > ROUNDING * max(1.0, float(logits.abs().max())):
        raise NetworkError("network: must answer each image by itself, an image alone got other logits than in a batch")
    _check_gradient(network, probes)
    _check_logits(network, _unit(images[:MANY]))


def _unit(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255


def _way_out(logits: Tensor, classes: int) -> str:
    """What to do about another number of outputs."""
    if logits.ndim != 2:
        return ""
    if logits.shape[1] > classes:
        return f"; choose {classes} of them with --outputs (OUTPUTS=), in the order of the data's class names"
    if logits.shape[1] == 1 and classes == 2:
        return "; return torch.cat([torch.zeros_like(z), z], 1) for the logit z of the second class"
    return ""


def _check_gradient(network: nn.Module, probes: Tensor) -> None:
    """Raises NetworkError where no gradient reaches the images, with the call that ends it and its place."""
    images = probes.clone().requires_grad_()
    try:
        with torch.enable_grad(), _frozen(network):
            logits = network(images)
            if logits.requires_grad:
                torch.autograd.grad(logits.sum(), images)
                return
    except Exception as error:  # whatever the network raises
        raise NetworkError(
            f"network: must pass gradients to its images, which attacks follow; it fails{place_of_error(error)} "
            f"({type(error).__name__}: {_line(error)})"
        ) from None
    watch, logits = _watched(network, probes)
    call = watch.cut(logits)
    raise NetworkError(
        f"network: must pass gradients to its images, which attacks follow; {f'they end in {call}' if call else 'it has none'}"
    )


def _watched(network: nn.Module, probes: Tensor) -> tuple[OperationWatch, Tensor]:
    with torch.enable_grad(), _frozen(network), OperationWatch() as watch:
        return watch, network(probes.clone().requires_grad_())


@contextlib.contextmanager
def _frozen(network: nn.Module) -> Generator[None]:
    """No parameter requires a gradient, and back."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()


def _check_logits(network: nn.Module, images: Tensor) -> None:
    """Raises NetworkError for probabilities and their logarithms.

    Logits of a few images may happen to add up to 1. Whatever is fed, probabilities do: also for images of other
    contrasts, which lie outside [0, 1]; a network that refuses those is judged by the others.
    """
    rows = [_logits(network, images)]
    for contrast in CONTRASTS:
        with contextlib.suppress(NetworkError):
            rows.append(_logits(network, (images - 0.5) * contrast + 0.5))
    finite = torch.cat([part[torch.isfinite(part).all(1)] for part in rows])
    if (finite >= 0).all() and ((finite.sum(1) - 1).abs() < SUM).all():
        what = "probabilities: every row is ≥ 0 and sums to 1"
    elif (finite <= 0).all() and (finite.logsumexp(1).abs() < SUM).all():
        what = "log-probabilities: in every row the exponentials sum to 1"
    else:
        return
    watch, logits = _watched(network, images[:PROBES])
    call = watch.made(logits)
    raise NetworkError(
        f"network: must return logits, returned {what}{f' (by {call})' if call else ''}; return what goes into the last "
        "softmax, e.g. with nn.Identity() in its place"
    )


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor) -> Tensor:
    try:
        logits: object = network(images)
    except NetworkError:
        raise
    except Exception as error:  # whatever the network raises
        raise NetworkError(
            f"network: must take float images of shape (N, {', '.join(map(str, images.shape[1:]))}), the data's, failed "
            f"with {type(error).__name__}{place_of_error(error)} ({_line(error)})"
        ) from None
    if not isinstance(logits, Tensor):
        raise NetworkError(f"network: must return logits as one tensor, returned a {type(logits).__name__}")
    return logits


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


class Call(NamedTuple):
    """A call by its name, and its place in the network's code (see tracing)."""

    name: str
    place: str

    def __str__(self) -> str:
        return self.name + self.place


#: Calls that turn a tensor into something else, for which there are no gradients.
LEAVING = ("array", "bool", "float", "int", "item", "numpy", "tolist")


class OperationWatch(TorchFunctionMode):
    """Around a forward pass in which nothing but the images requires a gradient; tensors are held while it lives."""

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
