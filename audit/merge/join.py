"""Several evaluations of one model joined image by image: whatever one of them broke is broken, so claims only go down.

Everything here is pure: verified bundles in, the parts of another bundle out, for bundle.assembly to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.merge.conflicts import (
    Finding,
    attack_findings,
    distance_findings,
    evaluation_seed,
    joined,
    smoothing_findings,
    union_findings,
)
from bundle.bundle import Bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.numbers.claims import KINDS
from bundle.pages.headline import main_names
from bundle.table.columns import ANSWER_PARTS, corrupted_columns, expected_columns, proof_column
from bundle.table.outcomes import SETTINGS, Outcomes
from bundle.table.plan import TIERS, curve_only, untested_balls

#: Rows are the same images where these agree.
IDENTITY = ("index", "label", "image_sha256")
OUTCOME_ORDER = ("pass", "warn", "fail")
#: Stands for the sentence about balls that were not attacked, which is another one in every bundle.
BALLS = ""
NOTHING_IN_COMMON = "anything that the merged evaluations do not list"


@dataclass(frozen=True)
class Renaming:
    """What had to take another name: of which bundle it is, its old name and its new one (attacks: `linf-8/pgd-10`)."""

    bundle: str
    kind: str
    old: str
    new: str


@dataclass(frozen=True)
class Merged:
    """What assemble() needs beside the model and the weights, and what was renamed on the way."""

    predicate: dict[str, Any]
    outcomes: Outcomes
    images: dict[str, NDArray[np.uint8]]
    renamed: list[Renaming]


def merge(bundles: Sequence[Bundle]) -> Merged:
    """Joins two or more bundles of one model on the same images.

    Attacks of all are kept: the same one (threat, name, record, columns and images) once; another of the same threat
    and name as NAME-seed-K, K its bundle's seed, or NAME-2, NAME-3 where that is taken too. Smoothed classifiers and
    minimum distances likewise, unions as NAME-2. Threats are united, and so are the
    main ones, of which the first bundle's headline leads. Of a sanity check the worse result stays, of two
    evaluations on common corruptions the one with the lower mean, of proofs the first. `notTested` keeps what all of
    them name. What is said of training, data, parity and environment is the first bundle's, and so are the margins on
    clean images.

    Raises HallmarkError where a bundle is of another model, of other images or classes, gives other answers to clean
    images, or has another threat of the same name.
    """
    if len(bundles) < 2:
        raise HallmarkError(f"merging takes two bundles or more, got {len(bundles)}")
    for bundle in bundles:
        if bundle.evidence == "private":
            raise HallmarkError(
                f"{bundle.path}: has private evidence; merge the bundles with images, then withhold theirs"
            )
    first = bundles[0]
    for other in bundles[1:]:
        _check_pair(first, other)
    found = _Found.of(bundles)
    predicate = _predicate(bundles, found)
    images = {"clean": first.images["clean"]}
    images |= {name: array for item in found.attacks for name, array in item.named_images().items()}
    return Merged(predicate, _table(first, found, predicate), images, found.renamed())


@dataclass(frozen=True)
class _Found:
    """What the bundles found, each once; and the bundle whose answers to corrupted images are kept."""

    attacks: list[Finding]
    unions: list[Finding]
    smoothing: list[Finding]
    distances: list[Finding]
    corrupted: Bundle | None
    proved: Bundle | None

    @classmethod
    def of(cls, bundles: Sequence[Bundle]) -> _Found:
        return cls(
            joined([attack_findings(bundle) for bundle in bundles]),
            joined([union_findings(bundle) for bundle in bundles]),
            joined([smoothing_findings(bundle) for bundle in bundles]),
            joined([distance_findings(bundle) for bundle in bundles]),
            _worst_corrupted(bundles),
            next((bundle for bundle in bundles if bundle.predicate["proofs"]), None),
        )

    def records(self) -> dict[str, Any]:
        """The predicate's lists."""
        return {
            "attacks": [item.record for item in self.attacks],
            "unions": [item.record for item in self.unions],
            "smoothing": [item.record for item in self.smoothing],
            "distances": [item.record for item in self.distances],
            "corruptions": self.corrupted and self.corrupted.predicate["corruptions"],
            "proofs": self.proved.predicate["proofs"] if self.proved else [],
        }

    def columns(self) -> dict[str, NDArray[Any]]:
        """The outcome table's columns but those that all bundles share."""
        found = [*self.attacks, *self.smoothing, *self.distances]
        columns = {name: values for item in found for name, values in item.named_columns().items()}
        if self.corrupted is not None:
            answers = self.corrupted.outcomes
            columns |= {name: answers[name] for name in corrupted_columns(self.corrupted.predicate)}
        if self.proved is not None:
            named = (proof_column(item["norm"]) for item in self.proved.predicate["proofs"])
            columns |= {name: self.proved.outcomes[name] for name in named}
        return columns

    def renamed(self) -> list[Renaming]:
        return [
            Renaming(item.bundle, item.kind, item.key(item.old), item.key(item.record["name"]))
            for item in [*self.attacks, *self.unions, *self.smoothing, *self.distances]
            if item.old != item.record["name"]
        ]


def _predicate(bundles: Sequence[Bundle], found: _Found) -> dict[str, Any]:
    """Everything that assemble() does not compute; what is not joined is the first bundle's."""
    predicates = [bundle.predicate for bundle in bundles]
    first, computed = predicates[0], {*KINDS, "files", "reliable"}
    reads = {"models": max(item["testReads"]["models"] for item in predicates)}
    if any("complete" in item["testReads"] for item in predicates):
        reads["complete"] = all(item["testReads"].get("complete", True) for item in predicates)
    return {
        **{key: value for key, value in first.items() if key not in computed},
        **found.records(),
        "tier": max((item["tier"] for item in predicates), key=TIERS.index),
        "merged": sources(bundles),
        "testReads": {**first["testReads"], **reads},
        "threats": _threats(bundles),
        "mainThreats": _main_threats(bundles, found),
        "surface": next((item["surface"] for item in predicates if item["surface"]), None),
        "sanity": _sanity(predicates),
        "notTested": _not_tested(predicates),
    }


def _table(first: Bundle, found: _Found, predicate: Mapping[str, Any]) -> Outcomes:
    columns = {**first.outcomes.columns, **found.columns()}
    return Outcomes({name: columns[name] for name in expected_columns(predicate)})


def sources(bundles: Iterable[Bundle]) -> list[dict[str, Any]]:
    """The evaluations behind some bundles, each once; those that are merged themselves stand for their own sources."""
    found: dict[str, dict[str, Any]] = {}
    for bundle in bundles:
        own: dict[str, Any] = {
            "attestation": sha256_bytes(bundle.statement_bytes),
            "tier": bundle.predicate["tier"],
            "seed": evaluation_seed(bundle.predicate),
        }
        for item in bundle.predicate["merged"] or [own]:
            found.setdefault(item["attestation"], item)
    return list(found.values())


def _check_pair(first: Bundle, other: Bundle) -> None:
    """Raises HallmarkError that says how `other` is not an evaluation of the same model on the same images."""
    if other.digest != first.digest:
        raise HallmarkError(f"{other.path}: is of model {other.version}, {first.path} of model {first.version}")
    if other.class_names != first.class_names:
        raise HallmarkError(f"{other.path}: names other classes than {first.path}")
    for name in IDENTITY:
        if not np.array_equal(other.outcomes[name], first.outcomes[name]):
            raise HallmarkError(f"{other.path}: is of other images than {first.path}: {name} differs")
    # Margins are differences of two logits; on another host each may move by the tolerance.
    allowed = 2 * max(bundle.predicate["parity"]["tolerance"] for bundle in (first, other))
    for setting in SETTINGS:
        for name in (f"{setting}/clean/{part}" for part in ANSWER_PARTS):
            said, found = first.outcomes[name], other.outcomes[name]
            limit = 0 if name.endswith("prediction") else allowed
            if differing := int((~np.isclose(said, found, rtol=0, atol=limit, equal_nan=True)).sum()):
                raise HallmarkError(f"{other.path}: {name} differs from that of {first.path} on {differing} images")


def _threats(bundles: Sequence[Bundle]) -> list[Mapping[str, Any]]:
    threats: dict[str, Mapping[str, Any]] = {}
    for bundle in bundles:
        for item in bundle.predicate["threats"]:
            if threats.setdefault(item["name"], item) != item:
                raise HallmarkError(
                    f"{bundle.path}: threat {item['name']} has another radius than in the bundles before it"
                )
    return list(threats.values())


def _main_threats(bundles: Sequence[Bundle], found: _Found) -> list[str]:
    """Those of every bundle, the first one's headline first; but for points of a curve beside what others attacked."""
    names = dict.fromkeys(name for bundle in bundles for name in main_names(bundle.predicate))
    curve = curve_only({"threats": _threats(bundles), "attacks": [item.record for item in found.attacks]})
    return [name for name in names if name not in curve]


def _worst_corrupted(bundles: Sequence[Bundle]) -> Bundle | None:
    """The bundle whose corruptions are kept: the one with the lowest mean accuracy on them."""
    evaluated = [bundle for bundle in bundles if bundle.predicate["corruptions"] is not None]
    return min(evaluated, key=lambda bundle: bundle.predicate["corruptionAccuracy"][-1]["value"], default=None)


def _sanity(predicates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    worst: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    for predicate in predicates:
        for item in predicate["sanity"]:
            key = item["check"], item.get("threat")
            worst[key] = max(worst.get(key, item), item, key=_badness)
    return list(worst.values())


def _badness(item: Mapping[str, Any]) -> tuple[int, float, bytes]:
    """Orders results of one check: the outcome, then how far beyond the threshold, then anything that is determined."""
    beyond = item["statistic"] - item["threshold"]
    return (
        OUTCOME_ORDER.index(item["outcome"]),
        beyond if item["comparator"] == "<=" else -beyond,
        canonical_json(item),
    )


def _not_tested(predicates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What every one of them names; of balls, those that none of them has."""
    named = [[BALLS if item == balls else item for item in said] for said, balls in map(_said, predicates)]
    common = [item for item in named[0] if all(item in other for other in named)]
    balls = untested_balls({item["norm"] for predicate in predicates for item in predicate["threats"]})
    return [balls if item == BALLS else item for item in common] or [NOTHING_IN_COMMON]


def _said(predicate: Mapping[str, Any]) -> tuple[list[str], str]:
    return predicate["notTested"], untested_balls({item["norm"] for item in predicate["threats"]})
