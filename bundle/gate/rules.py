"""One rule of a policy with its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One rule with what it asks for and what was found."""

    name: str
    required: str
    measured: str
    passed: bool

    def sentence(self) -> str:
        return f"{self.name}: {self.measured}, must be {self.required}"
