"""A release policy: what must hold of a model before it is released. docs/policy.yaml has every field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError
from bundle.plan import ALL_ATTACKS


class PolicyError(HallmarkError):
    """The policy cannot be read, or has a wrong field; the message has a sentence for each."""


@dataclass(frozen=True)
class Threshold:
    """`minimum` ≤ number ≤ `maximum` (either may be None) for `end`, the value or an end of its interval."""

    metric: str
    keys: Mapping[str, Any]
    minimum: float | None
    maximum: float | None
    end: str

    @property
    def title(self) -> str:
        """The number as a policy names it: `robust_accuracy served linf-8 all`."""
        return " ".join(
            [self.metric, *(f"{value:g}" if isinstance(value, float) else str(value) for value in self.keys.values())]
        )


@dataclass(frozen=True)
class NotWorse:
    """Non-inferiority: the 95 % interval of the difference to the baseline lies above −`margin` (a share, 0.02 is 2 points).

    `setting`, `threat` (None: the baseline's main one) and `attack` say of which robust accuracy; a `metric` of
    clean_accuracy has neither threat nor attack. `first` is what the rule comes to where there was no release before.
    """

    margin: float
    metric: str = "robust_accuracy"
    setting: str = "served"
    threat: str | None = None
    attack: str = ALL_ATTACKS
    first: bool = False


#: At most such a share of images may leak, by the names in bundle.leakage.LEAKS.
Leakage = Mapping[str, float]


@dataclass(frozen=True)
class Policy:
    """A validated policy; None and empty mean that it does not ask. `signers` are key ids, files of public keys, or folders."""

    source: str
    sha256: str
    metrics: Sequence[Threshold] = ()
    tier: str | None = None
    flags: int | None = None
    reliable: bool | None = None
    not_worse: Sequence[NotWorse] = ()
    key_ids: Sequence[str] = ()
    key_files: Sequence[Path] = ()
    test_reads: int | None = None
    selection: str | None = None
    sample: int | None = None
    leakage: Leakage = field(default_factory=dict[str, float])
