"""What a long attack hands over to be kept, so that a killed evaluation goes on after its last finished part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """A finished part: its adversarial images (N, C, H, W), and notes that JSON can hold."""

    images: Tensor
    notes: dict[str, Any] = field(default_factory=dict)


class Keep(Protocol):
    """Returns the part of this name that was kept before, or computes it, keeps it and returns it."""

    def __call__(self, name: str, compute: Callable[[], Part], /) -> Part: ...


def keep_nothing(name: str, compute: Callable[[], Part], /) -> Part:
    """Computes every part anew."""
    return compute()
