"""Labels as distributions over classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def smoothed(labels: Tensor, classes: int, share: float) -> Tensor:
    """(1 − share) · label + share / classes, (N, K): torch's label smoothing (Szegedy et al. 2016, arXiv 1512.00567).

    Parameters: `labels`, classes (N,) or distributions (N, K); `share` in [0, 1] is spread over all classes, the true
    one included. Cross-entropy with the result is `cross_entropy(…, label_smoothing=share)` with the classes.
    """
    distributions = functional.one_hot(labels, classes).float() if labels.dim() == 1 else labels
    return (1 - share) * distributions + share / classes
