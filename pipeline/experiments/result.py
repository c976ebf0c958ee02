"""A result: what one run measured, as data that is published and that anyone can recompute the numbers from.

An accuracy is the fraction of images that are right, with its interval and the outcome of every image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, ValidationError, model_validator

from bundle.digests import canonical_json, write_whole
from bundle.errors import HallmarkError
from bundle.numbers.claims import ALL_ATTACKS
from bundle.numbers.intervals import clopper_pearson
from bundle.table.threats import Threat, answering
from pipeline.experiments.plan import Suite, settings_digest
from pipeline.params import Section

SCHEMA = 1


def _sha256(text: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError("must be a SHA-256 in 64 hexadecimal digits")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256)]


class MethodRecord(Section):
    name: str
    title: str
    paper: str
    reconstructed: bool
    passes: list[int] = Field(min_length=2, max_length=2, description="forward and backward passes of a step")


class DataRecord(Section):
    name: str
    classes: int = Field(ge=2)
    splits: dict[Literal["train", "validation", "test"], Sha256] = Field(description="digests of images and labels")
    counts: dict[Literal["train", "validation", "test"], int]


class SampleRecord(Section):
    """Which images were attacked."""

    split: Literal["test", "validation"]
    size: int = Field(ge=1)
    of: int = Field(ge=1)
    order: str
    seed: int = Field(ge=0)
    shard: int = Field(ge=1, description="images attacked at once and saved")
    suite: Suite = "core"
    limits: dict[str, int] = Field(
        default={}, description="images that a threat or an attack was asked of, the first ones"
    )
    index_sha256: Sha256 = Field(description="of the rows, little-endian int64, in their order")


class Accuracy(Section):
    """`threats` by name: each attack, and `all`, right when clean and under every attack of the threat.

    An attack may be asked of the first images alone; `all` is about the images that every attack was asked of.
    """

    clean: Share
    threats: dict[str, dict[str, Share]] = Field(min_length=1)
    union: Share | None = Field(description="right under every attack of the first radius of every norm, if several")

    @classmethod
    def of(cls, clean: Right, attacked: dict[str, dict[str, Right]]) -> Accuracy:
        """From outcomes (N,): without attack, and by threat (in their order) and attack, (M,) of the first M ≤ N images."""
        threats = {
            name: {**attacks, ALL_ATTACKS: both([clean, *attacks.values()])} for name, attacks in attacked.items()
        }
        union = _union({name: outcomes[ALL_ATTACKS] for name, outcomes in threats.items()})
        return cls(
            clean=Share.of(clean),
            threats={name: {key: Share.of(right) for key, right in item.items()} for name, item in threats.items()},
            union=None if union is None else Share.of(union),
        )


class CurvePoint(Section):
    """Shares of the validation images after an epoch."""

    epoch: int = Field(ge=1)
    clean: float = Field(ge=0, le=1)
    pgd_10: float = Field(ge=0, le=1)


class Seconds(Section):
    """The only numbers in which two runs of the same thing may differ."""

    training: float = Field(ge=0)
    attack: float = Field(ge=0)


class Digests(Section):
    weights: Sha256 = Field(description="weights.safetensors")
    lock: Sha256 | None = Field(description="requirements.lock, which the packages were installed from")
    training_source: Sha256 = Field(description="pipeline/ and bundle/ when training ended")
    attack_source: list[Sha256] = Field(min_length=1, description="the same for the evaluation; several, if it changed")


class Result(Section):
    """One run. Every number is of the `reference` setting: torch, float32, float adversarial images."""

    schema_version: Literal[1] = SCHEMA
    name: str
    seed: int = Field(ge=0)
    setting: Literal["reference"] = "reference"
    settings: dict[str, Any]
    settings_sha256: Sha256
    method: MethodRecord
    network: dict[str, Any]
    parameters: int = Field(ge=1)
    selection: dict[str, Any]
    curve: list[CurvePoint] = Field(default=[], description="of the epochs; empty in results from before it was kept")
    data: DataRecord
    sample: SampleRecord
    threats: list[dict[str, Any]] = Field(min_length=1, description="in the order in which they were attacked")
    attacks: list[dict[str, Any]]
    accuracy: Accuracy
    flags: list[str]
    device: str
    trained_on: str | None = Field(default=None, description="where training ran; null: on `device`")
    environment: dict[str, Any]
    command: str
    seconds: Seconds
    digests: Digests

    def main_threat(self) -> Threat:
        """The attacked ball that answers for the one that the model was trained for; the first where none is recorded."""
        trained = self.settings.get("threat")
        return answering([Threat.of(threat) for threat in self.threats], trained and Threat.of(trained))

    def under(self, threat: str, attack: str = ALL_ATTACKS) -> Share | None:
        """Accuracy under one attack, or under all of them; None where it was not run."""
        return self.accuracy.threats.get(threat, {}).get(attack)

    @model_validator(mode="after")
    def _holds_together(self) -> Result:
        sample = self.sample
        digest = settings_digest(self.settings, sample.split, sample.shard, sample.suite, sample.limits)
        if digest != self.settings_sha256:
            raise ValueError("settings_sha256 is not the digest of settings, split and shard")
        names = [Threat.of(threat).name for threat in self.threats]
        if sorted(names) != sorted(self.accuracy.threats):
            raise ValueError(f"accuracy.threats must hold {', '.join(names)}")
        clean = self.accuracy.clean.outcomes()
        shares = [share for item in self.accuracy.threats.values() for share in item.values()]
        if len(clean) != sample.size or any(share.n > sample.size for share in shares):
            raise ValueError(f"clean must be of the sample's {sample.size} images, and no share of more")
        attacked = {
            name: {key: share.outcomes() for key, share in self.accuracy.threats[name].items() if key != ALL_ATTACKS}
            for name in names
        }
        if Accuracy.of(clean, attacked) != self.accuracy:
            raise ValueError("all or union are not what the attacks' outcomes say")
        return self


def save_result(path: Path, result: Result) -> None:
    """Writes sorted, indented JSON, the same bytes for the same result."""
    write_whole(path, canonical_json(result.model_dump()))


def load_result(path: Path) -> Result:
    """Reads and checks what save_result wrote; raises HallmarkError."""
    try:
        return Result.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise HallmarkError(f"{path}: there is no such result") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HallmarkError(
            f"{path}: {where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise HallmarkError(f"{path}: is no result ({type(error).__name__}: {error})") from None


def load_results(folder: Path) -> list[Result]:
    """The results that lie in a folder itself, by name and seed."""
    results = [load_result(path) for path in sorted(folder.glob("*.json"))]
    return sorted(results, key=lambda result: (result.name, result.seed))


def _union(outcomes: dict[str, Right]) -> Right | None:
    first: dict[str, Right] = {}
    for name, right in outcomes.items():
        first.setdefault(name.partition("-")[0], right)
    return both(first.values()) if len(first) > 1 else None


Right = NDArray[np.bool_]


class Share(Section):
    """`correct` of `n` images; `right` holds a bit an image in the sample's order, packed, as hexadecimal digits."""

    n: int = Field(ge=1)
    correct: int = Field(ge=0)
    share: float = Field(ge=0, le=1)
    interval: list[float] = Field(min_length=2, max_length=2, description="95 %, Clopper-Pearson")
    right: str

    @classmethod
    def of(cls, right: Right) -> Share:
        """Accuracy of the outcomes (N,), N ≥ 1."""
        correct = int(right.sum())
        return cls(
            n=len(right),
            correct=correct,
            share=correct / len(right),
            interval=list(clopper_pearson(correct, len(right))),
            right=pack(right),
        )

    def outcomes(self) -> Right:
        """Which images are right (N,)."""
        return unpack(self.right, self.n)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Share:
        counted = int(unpack(self.right, self.n).sum())
        if counted != self.correct:
            raise ValueError(f"correct says {self.correct}, and the outcomes in right say {counted}")
        exact = (self.correct / self.n, *clopper_pearson(self.correct, self.n))
        if not all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip((self.share, *self.interval), exact, strict=True)):
            raise ValueError("share and interval do not belong to correct and n")
        return self


def pack(right: Right) -> str:
    """Outcomes (N,) as hexadecimal digits, eight images a byte, the first in the highest bit."""
    return np.packbits(right).tobytes().hex()


def unpack(digits: str, n: int) -> Right:
    """What `pack` packed; raises ValueError for digits that do not hold n outcomes."""
    try:
        packed = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    except ValueError:
        raise ValueError("right is no string of hexadecimal digits") from None
    bits = np.unpackbits(packed).astype(bool)
    if len(packed) != -(-n // 8) or bits[n:].any():
        raise ValueError(f"right must hold {n} outcomes, a bit each, and zeros after them")
    return bits[:n]


def both(outcomes: Iterable[Right]) -> Right:
    """Which images are right in every one of these outcomes, as far as the shortest of them reaches."""
    listed = list(outcomes)
    shortest = min(map(len, listed))
    return np.logical_and.reduce([right[:shortest] for right in listed])
