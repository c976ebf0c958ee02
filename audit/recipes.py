"""Two recipes: the models of several seeds each, compared over the seeds. One model of each says nothing of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from audit.difference import DECIDING, print_changes, print_head
from audit.terminal import ABSENT, console, plain_table
from bundle.bundle import Bundle
from bundle.gate.pairing import Pair, PairingError, common_rows
from bundle.numbers.intervals import seeds_interval, verdict, welch_interval
from bundle.pages.wording import attack_title, leaves, listing, percent, points, threat_name_title
from bundle.process import plain
from bundle.table.outcomes import SETTINGS

#: Fewer seeds per side do not rank recipes.
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Spread:
    """One number of every seed of both sides: clean (no threat), or under all attacks that every model met.

    `threat` is a union's name too.
    """

    setting: str
    threat: str | None
    values_a: tuple[float, ...]
    values_b: tuple[float, ...]
    paired: bool

    @property
    def difference(self) -> float:
        """The mean of B minus the mean of A."""
        return float(np.mean(self.values_b)) - float(np.mean(self.values_a))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, over the seeds: Student's on the differences of each seed, or Welch's; None for fewer than two."""
        if min(len(self.values_a), len(self.values_b)) < 2:
            return None
        if self.paired:
            return seeds_interval([b - a for a, b in zip(self.values_a, self.values_b, strict=True)])
        return welch_interval(self.values_a, self.values_b)

    def describe(self) -> dict[str, Any]:
        where = {"setting": self.setting} | ({"threat": self.threat} if self.threat else {})
        return where | {
            "a": list(self.values_a),
            "b": list(self.values_b),
            "difference": self.difference,
            "interval": list(self.interval) if self.interval else None,
        }


class Recipes:
    """Recipe B minus recipe A on the images that all models have; each side is verified bundles of different seeds.

    Where both sides have the same seeds, the models of a seed are paired. Raises PairingError for sides that are not one
    recipe each: settings other than seeds that differ, or a seed or model that is there twice.
    """

    def __init__(self, a: Sequence[Bundle], b: Sequence[Bundle]) -> None:
        for side in (a, b):
            _check_recipe(side)
        self.a, self.b = (sorted(side, key=_seed) for side in (a, b))
        self.paired = [_seed(item) for item in self.a] == [_seed(item) for item in self.b]
        self.pair = Pair(self.a[0], self.b[0])
        self._rows = common_rows([*self.a, *self.b])
        self.spreads = list(self._compare())

    @property
    def images(self) -> int:
        return len(self._rows[0])

    @property
    def enough(self) -> bool:
        """Whether there are seeds enough to rank the recipes."""
        return min(len(self.a), len(self.b)) >= LEAST_SEEDS

    def _attacks(self, threat: str) -> list[str]:
        """The attacks that every model met in one strength."""
        found = [Pair(self.a[0], other).common_attacks(threat) for other in [*self.a, *self.b]]
        return [name for name in found[0] if all(name in names for names in found)]

    def _compare(self) -> Iterator[Spread]:
        """Clean images, then each threat, then each union, which counts where every one of its threats does."""
        balls = {name: [name] for name in self.pair.threats()}
        balls |= {item["name"]: item["threats"] for item in self._unions()}
        attacked = {name: threats for name, threats in balls.items() if all(map(self._attacks, threats))}
        for setting in reversed(SETTINGS):
            for name, threats in ((None, list[str]()), *attacked.items()):
                accuracies = [self._accuracy(number, setting, threats) for number in range(len(self._rows))]
                yield Spread(
                    setting, name, tuple(accuracies[: len(self.a)]), tuple(accuracies[len(self.a) :]), self.paired
                )

    def _unions(self) -> list[Mapping[str, Any]]:
        """The unions that every model has, of the same threats."""
        others = [item.predicate["unions"] for item in [*self.a, *self.b]]
        return [union for union in others[0] if all(union in unions for unions in others)]

    def _accuracy(self, number: int, setting: str, threats: Sequence[str]) -> float:
        """Accuracy on clean images, and under the common attacks of every one of the threats."""
        outcomes = [*self.a, *self.b][number].outcomes
        right = outcomes.clean_right(setting)
        for threat in threats:
            right = right & outcomes.robust(setting, threat, self._attacks(threat))
        return float(right[self._rows[number]].mean())

    @cached_property
    def deciding(self) -> Spread | None:
        """All common attacks of the headline's threat in the served setting."""
        threat = self.pair.deciding()
        return next(
            (item for item in self.spreads if threat and (item.setting, item.threat) == (DECIDING, threat)), None
        )

    def sentence(self) -> str:
        """Whether recipe B is better, worse or not distinguishable; or why that cannot be said."""
        found = self.deciding
        if found is None:
            return "Not compared: not every model met an attack of the same threat and strength."
        if not self.enough or found.interval is None:
            return (
                f"Not ranked: a comparison of recipes needs at least {LEAST_SEEDS} seeds per side, there are "
                f"{len(self.a)} of A and {len(self.b)} of B; the mean difference is {points(found.difference)} points."
            )
        assert found.threat is not None
        word = verdict(found.interval)
        low, high = found.interval
        return (
            f"Recipe B is {word} {'from' if word == 'not distinguishable' else 'than'} recipe A: "
            f"{points(found.difference)} points [{points(low)}, {points(high)}], the mean over "
            f"{self._seeds()}, under all attacks that every model met at "
            f"{threat_name_title(self.a[0].predicate, found.threat)}, served, on {self.images} images."
        )

    def _seeds(self) -> str:
        if self.paired:
            return f"{len(self.a)} seeds of paired differences"
        return f"{len(self.a)} seeds of A and {len(self.b)} of B, which do not pair"

    def cautions(self) -> list[str]:
        """What a reader must know beside the sentence."""
        found = ["The interval is about the seeds, on these images."]
        for name, side in (("A", self.a), ("B", self.b)):
            if bad := [bundle.version for bundle in side if not bundle.predicate["reliable"]]:
                found.append(f"Recipe {name} has unreliable models, whose sanity checks failed: {listing(bad)}.")
        if others := self._other_attacks():
            titles = listing([attack_title(name) for name in others])
            found.append(f"The attacks are not the same: those that all met in one strength count, without {titles}.")
        if any(len(bundle.outcomes) != self.images for bundle in [*self.a, *self.b]):
            found.append("Images that not every model has are left out.")
        return found

    def _other_attacks(self) -> list[str]:
        threat = self.pair.deciding()
        if threat is None:
            return []
        common = set(self._attacks(threat))
        records = [item for bundle in [*self.a, *self.b] for item in bundle.predicate["attacks"]]
        names = dict.fromkeys(item["name"] for item in records if item["threat"] == threat)
        return [name for name in names if name not in common]

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        ranked = self.enough and self.deciding is not None and self.deciding.interval is not None
        return {
            **{
                name: [{"version": item.version, "seed": _seed(item), "folder": item.path.as_posix()} for item in side]
                for name, side in (("a", self.a), ("b", self.b))
            },
            "images": self.images,
            "paired": self.paired,
            "verdict": verdict(self.deciding.interval) if ranked and self.deciding and self.deciding.interval else None,
            "sentence": self.sentence(),
            "cautions": self.cautions(),
            "comparisons": [item.describe() for item in self.spreads],
            "changed": [item for item in self.pair.changed() if not is_seed(item["setting"])],
            "data": self.pair.data(),
        }


def _check_recipe(side: Sequence[Bundle]) -> None:
    first = side[0]
    for number, other in enumerate(side[1:], 1):
        if differ := [item["setting"] for item in Pair(first, other).changed() if not is_seed(item["setting"])]:
            raise PairingError(
                f"{first.path} and {other.path}: are not one recipe, since {listing(differ)} differ; "
                "a recipe's models differ in their seeds alone"
            )
        for earlier in side[:number]:
            if other.digest == earlier.digest or _seed(other) == _seed(earlier):
                what = "model" if other.digest == earlier.digest else "seed"
                raise PairingError(f"{earlier.path} and {other.path}: are of the same {what}; one seed counts once")


def _seed(bundle: Bundle) -> int:
    seed = dict(leaves(bundle.predicate["parameters"])).get("seed")
    if not isinstance(seed, int):
        raise PairingError(f"{bundle.path}: its settings name no seed, so it cannot stand for a recipe")
    return seed


def is_seed(setting: str) -> bool:
    """Whether a setting chooses random numbers: `seed`, `data.seed`, `attack.seeds`."""
    return setting.rpartition(".")[2] in ("seed", "seeds")


def print_recipes(found: Recipes) -> None:
    """The sentence, the cautions, one row per comparison with every seed's number, what changed."""
    out = console()
    print_head(out, found.sentence(), found.cautions())
    table = plain_table(
        "setting", "threat", "A by seed", "B by seed", "mean B − A in points", "95 % interval over seeds"
    )
    for item in found.spreads:
        values = [", ".join(percent(value) for value in side) for side in (item.values_a, item.values_b)]
        interval = ABSENT
        if item.interval and found.enough:
            low, high = item.interval
            interval = f"[{points(low)}, {points(high)}]"
        title = item.threat or "none (clean)"
        table.add_row(*map(plain, (item.setting, title, *values, points(item.difference), interval)))
    out.print(table)
    document = found.describe()
    print_changes(out, document["changed"], document["data"])
