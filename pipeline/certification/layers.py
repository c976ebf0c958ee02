"""Layers as affine maps, whatever module or function makes them: y = W x + b, its |W|, and its transpose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.blocks import Normalise


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
        """What the rounding of b is a share of: |b|, or more where b is itself a sum."""
        bias = self.bias(like)
        return None if bias is None else bias.abs()

    def __call__(self, x: Tensor) -> Tensor:
        bias = self.bias(x)
        return self.linear(x) if bias is None else self.linear(x) + bias


class Convolution(Affine):
    """nn.Conv2d with zero padding, any stride, dilation and groups."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.module = module
        self.terms = module.weight[0].numel() + 1
        self.terms_back = module.weight[:, 0].numel() // module.groups
        assert not isinstance(module.padding, str)
        self.padding: tuple[int, ...] = tuple(module.padding)

    def _weight(self, like: Tensor) -> Tensor:
        return self.module.weight.to(like.dtype)

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        module, weight = self.module, self._weight(x)
        weight = weight.abs() if absolute else weight
        return functional.conv2d(x, weight, None, module.stride, self.padding, module.dilation, module.groups)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        module = self.module
        reached = [
            (size - 1) * module.stride[i] - 2 * self.padding[i] + module.dilation[i] * (module.kernel_size[i] - 1) + 1
            for i, size in enumerate(rows.shape[-2:])
        ]
        missing = [wanted - size for wanted, size in zip(shape[-2:], reached, strict=True)]
        return functional.conv_transpose2d(
            rows, self._weight(rows), None, module.stride, self.padding, missing, module.groups, module.dilation
        )

    def bias(self, like: Tensor) -> Tensor | None:
        return None if self.module.bias is None else self.module.bias.to(like.dtype)[:, None, None]


class Dense(Affine):
    """nn.Linear on flat features."""

    def __init__(self, module: nn.Linear) -> None:
        self.module = module
        self.terms, self.terms_back = module.in_features + 1, module.out_features

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        weight = self.module.weight.to(x.dtype)
        return x @ (weight.abs() if absolute else weight).T

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return rows @ self.module.weight.to(rows.dtype)

    def bias(self, like: Tensor) -> Tensor | None:
        return None if self.module.bias is None else self.module.bias.to(like.dtype)


class Scaling(Affine):
    """A factor and a shift for each channel: BatchNorm with its running statistics, and Normalise.

    y = scale (x − mean) + shift. `before` is the number of terms of the convolution that a BatchNorm may be folded
    into: its shift is then rounded as often as that sum is.
    """

    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d | Normalise, before: int = 0) -> None:
        self.module = module
        self.terms = 2 + before

    def _values(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        module = self.module
        if isinstance(module, Normalise):
            return 1 / module.std.to(like.dtype).flatten(), module.mean.to(like.dtype).flatten(), None
        assert module.running_mean is not None and module.running_var is not None  # read() refuses others
        scale = (module.running_var.to(like.dtype) + module.eps).rsqrt()
        if module.weight is not None:
            scale = scale * module.weight.to(like.dtype)
        shift = None if module.bias is None else module.bias.to(like.dtype)
        return scale, module.running_mean.to(like.dtype), shift

    def _shaped(self, values: Tensor) -> Tensor:
        return values if isinstance(self.module, nn.BatchNorm1d) else values[:, None, None]

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        scale = self._shaped(self._values(x)[0])
        return x * (scale.abs() if absolute else scale)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return self.linear(rows)

    def bias(self, like: Tensor) -> Tensor:
        scale, mean, shift = self._values(like)
        return self._shaped(-scale * mean if shift is None else shift - scale * mean)

    def bias_size(self, like: Tensor) -> Tensor:
        scale, mean, shift = self._values(like)
        size = (scale * mean).abs()
        return self._shaped(size if shift is None else size + shift.abs())


class Mean(Affine):
    """The mean over all pixels; (N, C, H, W) to (N, C), or to (N, C, 1, 1)."""

    def __init__(self, pixels: int, *, keep: bool) -> None:
        self.keep = keep
        self.terms = pixels + 1

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=self.keep)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        rows = rows if self.keep else rows[..., None, None]
        return rows.expand(*rows.shape[:-3], *shape) / math.prod(shape[-2:])


class Cells(Affine):
    """The mean over each cell of a grid (adaptive average pooling); (N, C, H, W) to (N, C, h, w)."""

    def __init__(self, size: tuple[int, int], shape: torch.Size) -> None:
        self.size = size
        self.terms = math.prod(-(-whole // cells) + 1 for whole, cells in zip(shape[-2:], size, strict=True)) + 1
        self.terms_back = math.prod(-(-cells // whole) + 1 for whole, cells in zip(shape[-2:], size, strict=True))

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        return x if x.shape[-2:] == self.size else functional.adaptive_avg_pool2d(x, self.size)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        if shape[-2:] == self.size:
            return rows
        with torch.enable_grad():
            x = torch.zeros(len(rows), *shape, dtype=rows.dtype, device=rows.device, requires_grad=True)
            return torch.autograd.grad(self.linear(x), x, rows)[0]


class Reshape(Affine):
    """Flattening: nothing is computed, and nothing rounded."""

    terms = 0

    def linear(self, x: Tensor, *, absolute: bool = False) -> Tensor:
        return x.flatten(1)

    def transposed(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return rows.reshape(-1, *shape)
