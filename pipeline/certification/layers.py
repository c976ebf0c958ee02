"""Layers as affine maps, whatever module or function makes them: y = W x + b, its |W|, and its transpose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

#: Gives a tensor of the network's, as it is now.
Value = Callable[[], Tensor]


class Affine(ABC):
    """y = W x + b on tensors (..., *shape); leading dimensions are images, or images and rows.

    `terms` is the number of products that one output sums, `terms_back` that an entry of Wᵀ rows sums. Weights are
    read when they are used, in the type of x.
    """

    terms = 1
    terms_back = 1

    @abstractmethod
    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        """W x, or |W| x; x (N, *shape in)."""

    @abstractmethod
    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Wᵀ rows; rows (N, *shape out), `shape` the shape in, without N."""

    def bias(self, like: Tensor) -> Tensor | None:
        """b in a shape that broadcasts to (N, *shape out)."""
        return None

    def bias_size(self, like: Tensor) -> Tensor | None:
        """What the rounding of b is a fraction of: |b|, or more where b is itself a sum."""
        bias = self.bias(like)
        return None if bias is None else bias.abs()

    def __call__(self, x: Tensor) -> Tensor:
        bias = self.bias(x)
        return self.linear(x) if bias is None else self.linear(x) + bias


class Convolution(Affine):
    """A convolution of (N, C, H, W) with zero padding, any stride, dilation and groups."""

    def __init__(
        self,
        weight: Value,
        bias: Value | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        self.weight, self.shift = weight, bias
        self.stride, self.padding, self.dilation, self.groups = tuple(stride), tuple(padding), tuple(dilation), groups
        self.terms = weight()[0].numel() + 1
        self.terms_back = weight()[:, 0].numel() // groups

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        weight = self.weight().to(x.dtype)
        weight = weight.abs() if absolute else weight
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        weight = self.weight().to(rows.dtype)
        reached = [
            (size - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (weight.shape[2 + i] - 1) + 1
            for i, size in enumerate(rows.shape[-2:])
        ]
        missing = [wanted - size for wanted, size in zip(shape[-2:], reached, strict=True)]
        return functional.conv_transpose2d(
            rows, weight, None, self.stride, self.padding, missing, self.groups, self.dilation
        )

    def bias(self, like: Tensor) -> Tensor | None:
        return None if self.shift is None else self.shift().to(like.dtype)[:, None, None]


class Dense(Affine):
    """x M + b on flat features; M (D, K)."""

    def __init__(self, matrix: Value, bias: Value | None) -> None:
        self.matrix, self.shift = matrix, bias
        inputs, self.terms_back = matrix().shape
        self.terms = inputs + 1

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        matrix = self.matrix().to(x.dtype)
        return x @ (matrix.abs() if absolute else matrix)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return rows @ self.matrix().to(rows.dtype).T

    def bias(self, like: Tensor) -> Tensor | None:
        return None if self.shift is None else self.shift().to(like.dtype)


class Factors(NamedTuple):
    """y = scale (x − mean) + shift, entry by entry; each broadcasts to (*shape), None leaves it out."""

    scale: Tensor | None = None
    mean: Tensor | None = None
    shift: Tensor | None = None


class Scaling(Affine):
    """A factor and a shift for each entry: BatchNorm with its running statistics, normalisation, constants.

    `factors` gives them in a type. `before` is the number of terms of the convolution that they may be folded into: the
    shift is then rounded as often as that sum is.
    """

    def __init__(self, factors: Callable[[torch.dtype], Factors], before: int = 0) -> None:
        self.factors = factors
        self.terms = 2 + before

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        scale = self.factors(x.dtype).scale
        return x if scale is None else x * (scale.abs() if absolute else scale)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return self.linear(rows)

    def bias(self, like: Tensor) -> Tensor | None:
        moved, shift = self._moved(like), self.factors(like.dtype).shift
        return shift if moved is None else -moved if shift is None else shift - moved

    def bias_size(self, like: Tensor) -> Tensor | None:
        sizes = [part.abs() for part in (self._moved(like), self.factors(like.dtype).shift) if part is not None]
        return None if not sizes else sizes[0] if len(sizes) == 1 else sizes[0] + sizes[1]

    def _moved(self, like: Tensor) -> Tensor | None:
        scale, mean, _ = self.factors(like.dtype)
        return mean if mean is None or scale is None else scale * mean


class Mean(Affine):
    """The mean over some of the dimensions 1, 2, … of (N, *shape), or their sum."""

    def __init__(self, dims: Sequence[int], shape: torch.Size, *, keep: bool, total: bool = False) -> None:
        self.dims, self.keep = sorted(dims), keep
        count = math.prod(shape[dim - 1] for dim in self.dims)
        self.divisor, self.terms = 1 if total else count, count + 1

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        return x.sum(dim=self.dims, keepdim=self.keep) / self.divisor

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        for dim in () if self.keep else self.dims:
            rows = rows.unsqueeze(dim)
        return rows.expand(-1, *shape) / self.divisor


class Pooling(Affine):
    """Means over windows or cells of pixels, (N, C, H, W) to (N, C, h, w); `pool` computes them.

    An output is of fewer than `terms` pixels, and a pixel is in at most `terms_back` outputs.
    """

    def __init__(self, pool: Callable[[Tensor], Tensor], terms: int, terms_back: int) -> None:
        self.pool, self.terms, self.terms_back = pool, terms, terms_back

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        return self.pool(x)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        with torch.enable_grad():
            x = torch.zeros(len(rows), *shape, dtype=rows.dtype, device=rows.device, requires_grad=True)
            return torch.autograd.grad(self.linear(x), x, rows)[0]


class Moved(Affine):
    """Values at other places, left out, or with zeros among them: nothing is computed, and nothing rounded.

    `places` (*shape out) says which of the flat values comes where, −1 for a zero; none comes twice.
    """

    terms = 0

    def __init__(self, places: Tensor, inputs: int) -> None:
        self.shape = places.shape
        flat = places.flatten()
        self.filled = (flat >= 0).nonzero().squeeze(1)
        self.places = flat[self.filled]
        self.in_order = torch.equal(flat, torch.arange(inputs, device=flat.device))

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        if self.in_order:
            return x.reshape(-1, *self.shape)
        result = x.new_zeros(len(x), math.prod(self.shape))
        return result.index_copy(1, self.filled, x.flatten(1)[:, self.places]).view(-1, *self.shape)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        if self.in_order:
            return rows.reshape(-1, *shape)
        result = rows.new_zeros(len(rows), math.prod(shape))
        return result.index_copy(1, self.places, rows.flatten(1)[:, self.filled]).view(-1, *shape)
