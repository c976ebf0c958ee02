"""Which of torch's core ATen operators have bounds, each as a layer; whatever is not here, nothing is proved through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.certification.layers import Affine, Convolution, Dense, Factors, Mean, Moved, Pooling, Scaling, Value

aten = torch.ops.aten
#: Images of the example that a network is traced with; one alone may be treated otherwise.
ROWS = 3


class NotKnownError(Exception):
    """No bounds are known through this operator, called in this way."""


class Feature(NamedTuple):
    """A value that depends on the image: its node, its shape without N, its type.

    `terms` is the number of products summed by the convolution or linear layer that it comes from, as far as a factor
    may be folded into that; 0 elsewhere.
    """

    node: int
    shape: torch.Size
    dtype: torch.dtype
    terms: int


class Constant(NamedTuple):
    """A value that does not depend on the image, computed when it is asked for."""

    value: Callable[[], Any]


#: An affine map; a function that never falls; a constant; None for the sum of two features.
Layer = Affine | Callable[[Tensor], Tensor] | Constant | None


def layer_of(
    target: Callable[..., Any] | str, arguments: Sequence[Any], named: Mapping[str, Any], *, relu_only: bool
) -> Layer:
    """The layer that an operator is, its arguments being features, constants and plain values; raises NotKnownError."""
    if callable(target) and target in MOVES:
        return _moved(target, arguments, named)
    operators = OPERATORS if relu_only else OPERATORS | OTHER_MONOTONE
    if target not in operators:
        raise NotKnownError
    try:
        return operators[target](*arguments, **named)
    except TypeError:  # an option that is not among the function's arguments, such as another type
        raise NotKnownError from None


def _convolution(
    x: object,
    weight: object,
    bias: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Layer:
    _require(len(_feature(x).shape) == 3 and not transposed)
    shift = None if bias is None else _tensor(bias)
    return Convolution(_tensor(weight), shift, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _matrix_product(x: object, matrix: object) -> Layer:
    _require(len(_feature(x).shape) == 1)
    return Dense(_tensor(matrix), None)


def _linear(bias: object, x: object, matrix: object, *, beta: float = 1, alpha: float = 1) -> Layer:
    feature, shift = _feature(x), _constant(bias)
    _require(len(feature.shape) == 1 and beta == alpha == 1)
    return Dense(_tensor(matrix), _for_each_image(shift, torch.Size([_tensor(matrix)().shape[1]]), feature.dtype))


def _batch_norm(
    x: Feature, weight: object, bias: object, mean: object, variance: object, momentum: float, eps: float
) -> Layer:
    centre, spread = _tensor(mean), _tensor(variance)
    scale, shift = (None if item is None else _tensor(item) for item in (weight, bias))

    def factors(dtype: torch.dtype) -> Factors:
        def shaped(value: Value) -> Tensor:
            return value().to(dtype).view(-1, *[1] * (len(x.shape) - 1))

        root = (shaped(spread) + eps).rsqrt()
        scaled = root if scale is None else root * shaped(scale)
        return Factors(scaled, shaped(centre), None if shift is None else shaped(shift))

    return Scaling(factors, x.terms)


def _added(x: object, y: object, *, alpha: float = 1) -> Layer:
    _require(alpha == 1)
    if isinstance(x, Feature) and isinstance(y, Feature):
        _require(x.shape == y.shape)
        return None
    feature, other = (x, y) if isinstance(x, Feature) else (y, x)
    return _scaling(feature, other, lambda value: Factors(shift=value))


def _subtracted(x: object, y: object, *, alpha: float = 1) -> Layer:
    _require(alpha == 1)
    if isinstance(x, Feature):
        return _scaling(x, y, lambda value: Factors(mean=value))
    return _scaling(y, x, lambda value: Factors(torch.full_like(value, -1), shift=value))


def _multiplied(x: object, y: object) -> Layer:
    feature, other = (x, y) if isinstance(x, Feature) else (y, x)
    return _scaling(feature, other, lambda value: Factors(value))


def _scaling(x: object, other: object, factors: Callable[[Tensor], Factors]) -> Layer:
    feature = _feature(x)
    value = _for_each_image(other, feature.shape, feature.dtype)
    return Scaling(lambda dtype: factors(value().to(dtype)), feature.terms)


def _mean(x: Feature, dims: Sequence[int] | None, keepdim: bool = False, *, total: bool = False) -> Layer:
    positions = [dim % (len(x.shape) + 1) for dim in dims or [0]]
    _require(0 not in positions)
    return Mean(positions, x.shape, keep=keepdim, total=total)


def _average(
    x: Feature,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Layer:
    _require(divisor is None or divisor > 0)
    sides, steps = _pair(kernel), _pair(stride or kernel)
    pool = partial(
        functional.avg_pool2d,
        kernel_size=sides,
        stride=steps,
        padding=padding if isinstance(padding, int) else _pair(padding),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor,
    )
    return Pooling(
        pool, math.prod(sides) + 1, math.prod(-(-side // step) for side, step in zip(sides, steps, strict=True))
    )


def _cells(x: Feature, size: Sequence[int]) -> Layer:
    sides = list(zip(x.shape[-2:], size, strict=True))
    terms = math.prod(-(-whole // cells) + 1 for whole, cells in sides) + 1
    back = math.prod(-(-cells // whole) + 1 for whole, cells in sides)
    return Pooling(partial(functional.adaptive_avg_pool2d, output_size=_pair(size)), terms, back)


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[-1])


def _clamped(x: Feature, lower: object = None, upper: object = None) -> Layer:
    _require(lower == 0 and upper in (None, math.inf))
    return torch.relu


def _threshold(x: Feature, threshold: object, value: object) -> Layer:
    _require(threshold == value == 0)
    return torch.relu


def _larger(x: object, y: object) -> Layer:
    one, other = (x, y) if isinstance(x, Feature) else (y, x)
    feature = _feature(one)
    _require(not _for_each_image(_constant(other), feature.shape, feature.dtype)().any())
    return torch.relu


OPERATORS: dict[object, Callable[..., Layer]] = {
    aten.convolution.default: _convolution,
    aten.mm.default: _matrix_product,
    aten.addmm.default: _linear,
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.add.Tensor: _added,
    aten.sub.Tensor: _subtracted,
    aten.mul.Tensor: _multiplied,
    aten.div.Tensor: lambda x, y: _scaling(x, y, lambda value: Factors(1 / value)),
    aten.neg.default: lambda x: _multiplied(x, -1),
    aten.mean.dim: _mean,
    aten.sum.dim_IntList: partial(_mean, total=True),
    aten.avg_pool2d.default: _average,
    aten._adaptive_avg_pool2d.default: _cells,
    aten.relu.default: lambda x: torch.relu,
    aten.clamp.default: _clamped,
    aten.clamp_min.default: _clamped,
    aten.hardtanh.default: _clamped,
    aten.threshold.default: _threshold,
    aten.maximum.default: _larger,
    aten.full_like.default: lambda x, value=0.0, **_: Constant(lambda: torch.full((1, *x.shape), value, dtype=x.dtype)),
}
OTHER_MONOTONE: dict[object, Callable[..., Layer]] = {
    aten.tanh.default: lambda x: torch.tanh,
    aten.sigmoid.default: lambda x: torch.sigmoid,
}
#: Operators whose results are values of their input, each at most once, and zeros.
MOVES = {
    aten.alias.default,
    aten.clone.default,
    aten.constant_pad_nd.default,
    aten.expand.default,
    aten.flip.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.permute.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.view.default,
}


def _moved(target: Callable[..., Tensor], arguments: Sequence[Any], named: Mapping[str, Any]) -> Layer:
    """What an operator does with the numbers 1, 2, … in place of the features tells where each value goes."""
    x = _feature(arguments[0])
    inputs = math.prod(x.shape)
    counted = torch.arange(1, ROWS * inputs + 1, dtype=torch.float64).view(ROWS, *x.shape)
    plain = _plain(list(arguments[1:]))
    found = target(counted, *plain, **named)
    _require(found.shape[:1] == counted.shape[:1] and not target(torch.zeros_like(counted), *plain, **named).any())
    places = found.long() - 1
    first = torch.arange(ROWS).view(-1, *[1] * (places.ndim - 1)) * inputs
    _require(torch.equal(torch.where(places >= 0, places - first, -1), places[:1].expand_as(places)))
    used = places[0][places[0] >= 0]
    _require(len(used.unique()) == len(used))
    return Moved(places[0], inputs)


def _plain(argument: Any) -> Any:
    """An argument, or a list of them, with the values of constants, on the CPU, in place of these."""
    if isinstance(argument, list):
        return [_plain(item) for item in argument]
    return argument.value().cpu() if isinstance(argument, Constant) else argument


def _feature(value: object) -> Feature:
    """What must depend on the image here."""
    if not isinstance(value, Feature):
        raise NotKnownError
    return value


def _constant(value: object) -> Constant:
    """What must not depend on the image here."""
    if not isinstance(value, Constant):
        raise NotKnownError
    return value


def _tensor(value: object) -> Value:
    """A tensor of the network's that does not depend on the image."""
    return _constant(value).value


def _for_each_image(constant: object, shape: torch.Size, dtype: torch.dtype) -> Value:
    """A constant that is the same for every image and broadcasts to features of this shape, in the network's type."""
    _require(not isinstance(constant, Feature))
    value = constant.value if isinstance(constant, Constant) else lambda: torch.tensor(constant, dtype=dtype)

    def of_one() -> Tensor:
        found = torch.as_tensor(value(), dtype=dtype)
        return found[0] if found.ndim > len(shape) else found

    found = torch.as_tensor(value())
    _require(found.ndim <= len(shape) + 1 and not found.is_complex())
    _require(found.ndim <= len(shape) or torch.equal(found, found[:1].expand_as(found)))
    _require(all(own in (1, whole) for own, whole in zip(reversed(of_one().shape), reversed(shape), strict=False)))
    return of_one


def _require(held: bool) -> None:
    if not held:
        raise NotKnownError
