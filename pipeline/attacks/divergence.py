"""Kullback-Leibler divergence in the mathematical order, so that no method depends on torch's argument order."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Reduction = Literal["batchmean", "element", "sum", "none"]


def kl_divergence(p_logits: Tensor, q_logits: Tensor, reduction: Reduction = "batchmean") -> Tensor:
    """KL(p‖q) = Σ p · (log p − log q) of two softmax distributions, computed from log-softmax in at least float32.

    Parameters: logits (N, K) each. `reduction`: `batchmean` sums over classes and averages over images, `element`
    averages over both (D²R's code), `sum` sums over both, `none` gives one value an image, (N,).
    """
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    values = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    match reduction:
        case "batchmean":
            return values.mean()
        case "element":
            return values.mean() / p_logits.shape[1]
        case "sum":
            return values.sum()
        case "none":
            return values


def at_least_float32(logits: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they are: losses are not computed in bf16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities (N, K) in float32, or float64 where the logits are."""
    return functional.log_softmax(at_least_float32(logits), dim=1)


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, true_class: float) -> Tensor:
    """Cross-entropy with weight `true_class` on the label and the rest shared equally by the other classes.

    `labels`: classes (N,), or distributions (N, K), of which every class is smoothed so. Not torch's label smoothing,
    which gives the label a part of the shared rest as well.
    """
    log_p = log_softmax(logits)
    others = (1 - true_class) / (logits.shape[1] - 1)
    label = log_p.gather(1, labels[:, None]).squeeze(1) if labels.dim() == 1 else (labels * log_p).sum(dim=1)
    return -(true_class * label + others * (log_p.sum(dim=1) - label)).mean()
