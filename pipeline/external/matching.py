"""Where in a file a network's weights are: in which section, and behind which prefix of their names."""

from __future__ import annotations

import argparse
import types
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.networks.names import NetworkError

NAMED = 3
#: BatchNorm's counter of batches decides no answer, and older files lack it.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightSection:
    """The tensors of one mapping in a file; `keys` lead to it, `others` are the names beside them."""

    keys: tuple[str, ...]
    tensors: dict[str, Tensor]
    others: list[str]


@dataclass(frozen=True)
class Match:
    """Tensors by the network's names, where they were found, and what was left out or renamed, a sentence each."""

    tensors: dict[str, Tensor]
    where: str
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    """The tensors of a section behind `prefix`, taken for the network's own names behind `own_prefix`."""

    section: WeightSection
    prefix: str
    own_prefix: str

    @property
    def label(self) -> str:
        return "/".join([*self.section.keys, *([self.prefix.removesuffix(".")] if self.prefix else [])])

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {
            self.own_prefix + name.removeprefix(self.prefix): value
            for name, value in self.section.tensors.items()
            if name.startswith(self.prefix)
        }


def sections(content: object) -> list[WeightSection]:
    """Every mapping in a file's content, however deep, that holds tensors by name."""
    return list(_sections(content, (), [], set()))


def _sections(content: object, keys: tuple[str, ...], beside: list[str], seen: set[int]) -> Iterator[WeightSection]:
    if id(content) in seen:
        return
    seen.add(id(content))
    parts = _parts(content)
    tensors = {str(name): tensor for name, value in parts.items() if (tensor := _tensor(value)) is not None}
    if tensors and isinstance(content, Mapping):
        yield WeightSection(keys, tensors, [*beside, *(str(name) for name in parts if str(name) not in tensors)])
    for name, value in parts.items():
        yield from _sections(
            value, (*keys, str(name)), [*beside, *(str(other) for other in parts if other != name)], seen
        )


def _parts(content: object) -> Mapping[Any, object]:
    if isinstance(content, (argparse.Namespace, types.SimpleNamespace)):
        return vars(content)
    if isinstance(content, (list, tuple)):
        return dict(enumerate(content))
    return content if isinstance(content, Mapping) else {}


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.array(value))
    return value.detach() if isinstance(value, Tensor) else None


def matching(network: nn.Module, found: list[WeightSection], path: Path, wanted: str | None) -> Match:
    """The one place where all of the network's weights are; where there is none, the nearest, which does not fit.

    `wanted` is a section's name, keys and prefix with / between them. Raises NetworkError where it is not there, and
    where several places have the weights, other ones in each.
    """
    own = network.state_dict()
    candidates = [candidate for section in found for candidate in _candidates(section, own)]
    if wanted is not None:
        candidates = _wanted(candidates, wanted, path)
    fitting = _distinct([candidate for candidate in candidates if _fits(candidate.tensors, own)])
    if len(fitting) > 1:
        raise NetworkError(
            f"{path}: the network's weights are in it more than once, and differ: "
            f"{', '.join(f'{path}#{candidate.label}' for candidate in fitting)}; name one of them"
        )
    chosen = fitting[0] if fitting else max(candidates, key=lambda each: len(own.keys() & each.tensors.keys()))
    where = f"{path}#{chosen.label}" if chosen.label else str(path)
    return Match(chosen.tensors, where, _remarks(chosen, path.name))


def _candidates(section: WeightSection, own: Mapping[str, Tensor]) -> list[_Candidate]:
    """All prefixes behind which the section has any of the network's names; none at least."""
    found = Counter(
        (prefix, own_prefix)
        for own_prefix in _common_prefixes(list(own))
        for name in own
        if not name.endswith(COUNTER)
        for prefix in _prefixes(section.tensors, name.removeprefix(own_prefix))
    )
    most = max(found.values(), default=0)
    return [_Candidate(section, *pair) for pair, count in found.items() if count == most] or [
        _Candidate(section, "", "")
    ]


def _prefixes(tensors: Mapping[str, Tensor], name: str) -> Iterator[str]:
    for found in tensors:
        if found == name or found.endswith(f".{name}"):
            yield found[: len(found) - len(name)]


def _common_prefixes(names: list[str]) -> list[str]:
    """What all names begin with, a part more each time: "", "1.", "1.net."."""
    parts = names[0].split(".")[:-1] if names else []
    prefixes = [".".join(parts[:count]) + "." for count in range(1, len(parts) + 1)]
    return ["", *(prefix for prefix in prefixes if all(name.startswith(prefix) for name in names))]


def _wanted(candidates: list[_Candidate], wanted: str, path: Path) -> list[_Candidate]:
    exact = [candidate for candidate in candidates if wanted in (candidate.label, "/".join(candidate.section.keys))]
    if not exact:
        labels = list(dict.fromkeys(candidate.label for candidate in candidates if candidate.label))
        raise NetworkError(f"{path}: has no section {wanted!r} with tensors; it has {listed(labels) or 'no sections'}")
    named = [candidate for candidate in exact if candidate.label == wanted]
    return named or exact


def _fits(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether every name is there with its shape; of tied weights one is enough."""
    storages = {own[name].untyped_storage().data_ptr() for name in tensors if name in own}
    return all(
        tensors[name].shape == value.shape
        if name in tensors
        else name.endswith(COUNTER) or value.untyped_storage().data_ptr() in storages
        for name, value in own.items()
    )


def _distinct(candidates: list[_Candidate]) -> list[_Candidate]:
    """One of each group that has the same tensors."""
    found: list[_Candidate] = []
    for candidate in sorted(
        candidates, key=lambda each: (len(each.section.keys), each.label.count("."), len(each.label))
    ):
        if not any(_equal(candidate.tensors, other.tensors) for other in found):
            found.append(candidate)
    return found


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(
        value.dtype == other[name].dtype and torch.equal(value, other[name])
        for name, value in one.items()
        if name in other
    )


def _remarks(chosen: _Candidate, file: str) -> list[str]:
    section, remarks = chosen.section, list[str]()
    if section.keys:
        remarks.append(f"the weights are those under {'/'.join(section.keys)!r} in {file}")
    if chosen.prefix:
        remarks.append(f"{chosen.prefix!r} was taken off the names in {file}")
    if chosen.own_prefix:
        remarks.append(f"{chosen.own_prefix!r} was put before the names in {file}")
    left = [*section.others, *(name for name in section.tensors if not name.startswith(chosen.prefix))]
    if left:
        remarks.append(f"not read: {listed(left)}")
    return remarks


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
