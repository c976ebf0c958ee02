"""Reading a policy of YAML or JSON: a sentence for each field that is unknown, repeated or wrong."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from bundle.digests import each_once, sha256_bytes
from bundle.errors import HallmarkError
from bundle.formats.yaml12 import BYTES, YamlError, load
from bundle.gate.policy import KEYS, METRICS, Metric, NotWorse, Policy, Threshold
from bundle.leakage import LEAKS
from bundle.pages.wording import listing
from bundle.table.outcomes import SETTINGS
from bundle.table.plan import ALL_ATTACKS, TIERS

KEY_ID = re.compile("[0-9a-f]{64}")
#: What a threshold may hold: the number itself, or an end of its 95 % interval.
ENDS = ("value", "lower", "upper")


@dataclass
class _Reading:
    """The sentences about wrong fields, as they are found."""

    wrong: list[str] = field(default_factory=list[str])

    def say(self, where: str, sentence: str) -> None:
        self.wrong.append(f"{where}: {sentence}")

    def take(self, where: str, value: Any, right: Callable[[Any], bool], sentence: str) -> Any:
        """The value where it is right; None, and a sentence, where not."""
        if right(value):
            return value
        self.say(where, f"must be {sentence}, is {_shown(value)}")
        return None

    def known(self, where: str, fields: Mapping[Any, Any], names: Sequence[str]) -> None:
        for name in fields:
            if name not in names:
                near = get_close_matches(str(name), names, 1)
                self.say(
                    f"{where}{name}",
                    f"is no field, did you mean {near[0]}?" if near else f"is no field, there are {listing(names)}",
                )


def read_policy(path: str | Path) -> Policy:
    """Reads a policy of YAML, or of JSON where the file's name ends in .json.

    Raises HallmarkError with a sentence for each field that is unknown, repeated, or of another kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)  # load() refuses what is longer
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read as a policy ({error.strerror})") from None
    document = _parse(path, content)
    if not isinstance(document, dict) or not document:
        raise HallmarkError(f"{path}: must be a policy, fields with what they ask for, as docs/policy.yaml shows them")
    reading = _Reading()
    fields = dict(_fields(reading, cast("dict[str, Any]", document), path.parent))
    if reading.wrong:
        raise HallmarkError(f"{path}: {'; '.join(reading.wrong)}")
    return Policy(path.as_posix(), sha256_bytes(content), **fields)


def _parse(path: Path, content: bytes) -> Any:
    try:
        if path.suffix == ".json" and len(content) <= BYTES:
            return json.loads(content, object_pairs_hook=each_once)
        return load(content)
    except (ValueError, TypeError, YamlError, RecursionError) as error:
        raise HallmarkError(f"{path}: cannot be read as a policy: {' '.join(str(error).split())}") from None


def _fields(reading: _Reading, document: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    simple: dict[str, tuple[Callable[[Any], bool], str]] = {
        "tier": (lambda value: value in TIERS, listing(TIERS).replace(" and ", " or ")),
        "flags": (_is_count, "the largest number of flags, 0 for none"),
        "reliable": (lambda value: value is True, "true"),
        "test_reads": (lambda value: _is_count(value) and value > 0, "the largest number of models, a whole number"),
        "selection": (lambda value: value == "validation", "validation"),
        "sample": (lambda value: _is_count(value) and value > 0, "the smallest number of images, a whole number"),
    }
    reading.known("", document, ("metrics", *simple, "leakage", "not_worse", "signed_by"))
    for name, (right, sentence) in simple.items():
        if name in document:
            yield name, reading.take(name, document[name], right, sentence)
    lists = (("metrics", _threshold), ("not_worse", _not_worse))
    for name, read in lists:
        yield name, [read(reading, f"{name}[{number}]", item) for number, item in _rows(reading, document, name)]
    if "leakage" in document:
        yield "leakage", _leakage(reading, document["leakage"])
    yield from _signers(reading, document, folder)


def _rows(reading: _Reading, document: Mapping[str, Any], name: str) -> list[tuple[int, dict[str, Any]]]:
    """The numbered items of a list of mappings; one mapping alone is a list of one."""
    if name not in document:
        return []
    value = [document[name]] if isinstance(document[name], dict) else document[name]
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in cast("list[Any]", value)):
        reading.say(name, "must be a list of rules with their fields")
        return []
    return list(enumerate(cast("list[dict[str, Any]]", value)))


def _threshold(reading: _Reading, where: str, item: Mapping[str, Any]) -> Threshold:
    reading.known(f"{where}.", item, ("metric", *KEYS, "min", "max", "at"))
    name = reading.take(
        f"{where}.metric", item.get("metric"), lambda value: value in METRICS, f"one of {listing(list(METRICS))}"
    )
    given = {key: item[key] for key in KEYS if key in item}
    if name is not None:
        if name == "robust_accuracy":
            given.setdefault("attack", ALL_ATTACKS)
        _check_keys(reading, where, name, given)
    ends = {
        end: reading.take(f"{where}.{end}", item[end], _is_number, "a number, fractions as 0 to 1")
        for end in ("min", "max")
        if end in item
    }
    if not ends:
        reading.say(where, "asks for nothing, give min, max or both")
    if name is not None:
        _check_range(reading, where, METRICS[name], {end: value for end, value in ends.items() if value is not None})
    at = reading.take(f"{where}.at", item.get("at", "value"), lambda value: value in ENDS, "value, lower or upper")
    return Threshold(name or "", given, ends.get("min"), ends.get("max"), at or "value")


def _check_range(reading: _Reading, where: str, metric: Metric, ends: Mapping[str, float]) -> None:
    """A bound that every number keeps, or none can, asks for something else than was meant: 5 where 0.05 is 5 %."""
    for end, value in ends.items():
        if value < 0 or (metric.fraction and value > 1):
            right = "a fraction from 0 to 1, 0.05 for 5 %" if metric.fraction else "0 or more"
            reading.say(f"{where}.{end}", f"must be {right}, is {_shown(value)}")
    if "min" in ends and "max" in ends and ends["min"] > ends["max"]:
        reading.say(where, f"min {ends['min']:g} lies above max {ends['max']:g}, so that no number can meet both")


def _check_keys(reading: _Reading, where: str, name: str, given: Mapping[str, Any]) -> None:
    metric = METRICS[name]
    for key in metric.required:
        if key not in given:
            reading.say(f"{where}.{key}", f"is missing, {name} is keyed by {listing(metric.keys)}")
    for key in given:
        if key not in metric.keys:
            reading.say(f"{where}.{key}", f"is no key of {name}")
    if given.get("setting", SETTINGS[0]) not in SETTINGS:
        reading.say(f"{where}.setting", f"must be {' or '.join(SETTINGS)}, is {_shown(given['setting'])}")


def _not_worse(reading: _Reading, where: str, item: Mapping[str, Any]) -> NotWorse:
    names = ("margin", "metric", "setting", "threat", "attack", "first")
    reading.known(f"{where}.", item, names)
    margin = reading.take(
        f"{where}.margin",
        item.get("margin"),
        lambda value: _is_number(value) and 0 < value < 100,
        "points above 0, 2 for 2 %",
    )
    metric = reading.take(
        f"{where}.metric",
        item.get("metric", "robust_accuracy"),
        lambda value: value in ("robust_accuracy", "clean_accuracy"),
        "robust_accuracy or clean_accuracy",
    )
    setting = reading.take(
        f"{where}.setting", item.get("setting", "served"), lambda value: value in SETTINGS, " or ".join(SETTINGS)
    )
    threat = reading.take(
        f"{where}.threat", item.get("threat"), lambda value: value is None or isinstance(value, str), "a threat's name"
    )
    attack = reading.take(
        f"{where}.attack", item.get("attack", ALL_ATTACKS), lambda value: isinstance(value, str), "an attack's name"
    )
    first = reading.take(
        f"{where}.first", item.get("first", "fail"), lambda value: value in ("pass", "fail"), "pass or fail"
    )
    return NotWorse((margin or 0) / 100, metric or "", setting or "", threat, attack or "", first == "pass")


def _leakage(reading: _Reading, given: Any) -> dict[str, float]:
    if not isinstance(given, dict) or not given:
        reading.say("leakage", f"must be fractions by name: {listing(list(LEAKS))}")
        return {}
    fractions = cast("dict[str, Any]", given)
    reading.known("leakage.", fractions, list(LEAKS))
    for leak in fractions:
        reading.take(f"leakage.{leak}", fractions[leak], _is_fraction, "a fraction of images, 0 to 1")
    return fractions


def _signers(reading: _Reading, document: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Any]]:
    if "signed_by" not in document:
        return
    value = document["signed_by"]
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name for name in cast("list[Any]", names))
    ):
        reading.say("signed_by", "must be a list of key.pub files and key ids")
        return
    texts = cast("list[str]", names)
    yield "key_ids", [name for name in texts if KEY_ID.fullmatch(name)]
    yield "key_files", [folder / name for name in texts if not KEY_ID.fullmatch(name)]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _shown(value: Any) -> str:
    return "not there" if value is None else repr(value)
