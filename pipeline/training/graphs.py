"""A step's images, losses and gradients as one CUDA graph: hundreds of small kernels for the price of one launch.

Small networks leave a GPU waiting for Python: a resnet20 step of D²R-CAG launches some ten thousand kernels of a few
microseconds each. A graph (torch.cuda.CUDAGraph) holds them with their memory and repeats them on other data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.methods import Batch, Method

#: Steps that run operation by operation before their like is captured: libraries choose and allocate in the first ones.
WARM_UP = 3


class Gradients(NamedTuple):
    """What a step computes before the weights change, beside the parameters' `grad`: images, and the loss's terms."""

    perturbed: Any
    terms: dict[str, Tensor]


class GraphedGradients:
    """`compute` by itself for the first steps of each kind, then as a graph, one for each kind of step.

    A kind is the batch's shapes and the method's phase; the method's parameters are those that get gradients. What a
    call returns is overwritten by the next one.
    """

    def __init__(self, compute: Callable[[Batch], Gradients], method: Method, device: torch.device) -> None:
        self.compute, self.method, self.parameters = compute, method, method.trained()
        self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        self.seen: Counter[Hashable] = Counter()
        self.captured: dict[Hashable, _Captured] = {}

    def __call__(self, batch: Batch) -> Gradients:
        """The gradients of a batch; a step whose radius is still growing is never captured."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        # Always the same stream: gradients are accumulated on the one that a weight was first used on.
        with torch.cuda.stream(self.stream):
            gradients = self._gradients(batch)
        current.wait_stream(self.stream)
        return gradients

    def _gradients(self, batch: Batch) -> Gradients:
        kind = (batch.images.shape, batch.labels.shape, self.method.phase(batch))
        self.seen[kind] += 1
        if self.method.radius_share < 1 or self.seen[kind] <= WARM_UP:
            return self.compute(batch)
        if kind not in self.captured:
            self.captured[kind] = _Captured(self, batch)
        return self.captured[kind].replay(batch)


class _Captured:
    """One graph, with the tensors that it reads and writes."""

    def __init__(self, owner: GraphedGradients, batch: Batch) -> None:
        self.batch = replace(batch, images=batch.images.clone(), labels=batch.labels.clone(), index=batch.index.clone())
        self.parameters, self.graph = owner.parameters, torch.cuda.CUDAGraph()
        for parameter in self.parameters:
            parameter.grad = None
        with torch.cuda.graph(self.graph, pool=owner.pool, stream=owner.stream):
            self.gradients = owner.compute(self.batch)
        self.grads = [parameter.grad for parameter in self.parameters]

    def replay(self, batch: Batch) -> Gradients:
        for name in ("images", "labels", "index"):
            getattr(self.batch, name).copy_(getattr(batch, name))
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.grads, strict=True):
            parameter.grad = gradient
        return self.gradients
