"""A comparison's numbers: a row an experiment over its seeds, and paired differences. Results in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # scipy.stats takes a second for the same quantile

from bundle.numbers.claims import ALL_ATTACKS
from bundle.numbers.intervals import PairedDifference, clopper_pearson, paired_difference
from bundle.pages.wording import attack_title, threat_title
from bundle.table.threats import Threat
from pipeline.experiments.result import Result, Share

Outcomes = Mapping[int, NDArray[np.bool_]]
BASELINE = "standard"
PGD = "pgd-50"
#: PGD-50 on the margin, which the suite papers calls so since it runs PGD-20 on it too.
MARGIN = ("margin", "margin-50")


@dataclass(frozen=True)
class SeedSpread:
    """Shares (0 to 1) of one number over seeds: their mean, and low and high ends.

    Several seeds: mean ± standard deviation over seeds. One seed: its 95 % Clopper-Pearson interval.
    """

    mean: float
    low: float
    high: float
    deviation: float | None

    @classmethod
    def of(cls, shares: Sequence[Share]) -> SeedSpread:
        """Over at least one accuracy."""
        values = [share.share for share in shares]
        mean = float(np.mean(values))
        if len(values) == 1:
            return cls(mean, *clopper_pearson(shares[0].correct, shares[0].n), None)
        deviation = float(np.std(values, ddof=1))
        return cls(mean, max(0.0, mean - deviation), min(1.0, mean + deviation), deviation)

    def say(self) -> str:
        """In per cent: `82.3 ± 0.9`, or with one seed `82.3 [77.6, 86.1]`."""
        if self.deviation is not None:
            return f"{100 * self.mean:.1f} ± {100 * self.deviation:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Row:
    """One experiment over its seeds.

    `robust` is under all attacks of the threat that all were trained for, or the first. `others` are the same under the
    other threats, and then under all together, where every experiment of the comparison was attacked in several norms.
    """

    name: str
    title: str
    clean: SeedSpread
    pgd: SeedSpread
    margin: SeedSpread
    robust: SeedSpread
    others: tuple[SeedSpread, ...]
    seconds: float
    passes: tuple[int, int]
    seeds: tuple[int, ...]
    flagged: bool

    def shares(self) -> tuple[SeedSpread, ...]:
        """Clean, PGD-50, margin, all attacks, and `others`."""
        return self.clean, self.pgd, self.margin, self.robust, *self.others

    def judged(self) -> SeedSpread:
        """What the experiments are ranked by: under all threats where there are several, else under the one."""
        return self.others[-1] if self.others else self.robust


class MethodComparison:
    """Results of several experiments under the same threat, on the same images; raises ValueError where there are none."""

    def __init__(self, results: Sequence[Result]) -> None:
        if not results:
            raise ValueError("a comparison needs results")
        self.results = list(results)
        main = {result.main_threat() for result in results}
        # Specialists of several norms have no threat in common but the first that all met.
        self.threat = main.pop() if len(main) == 1 else Threat.of(results[0].threats[0])
        self.tier = results[0].settings["attack"]["tier"]
        everywhere = [name for name in results[0].accuracy.threats if all(run.under(name) for run in results)]
        in_union = all(run.accuracy.union for run in results)
        self.others = [name for name in everywhere if name != self.threat.name] if in_union else []

    def rows(self) -> list[Row]:
        """The experiments, most robust first."""
        names = dict.fromkeys(result.name for result in self.results)
        rows = [self._row([result for result in self.results if result.name == name]) for name in names]
        return sorted(rows, key=lambda row: (-row.judged().mean, -row.clean.mean, row.name))

    def _row(self, runs: list[Result]) -> Row:
        def under(threat: str, *attacks: str) -> SeedSpread:
            met = [[share for attack in attacks if (share := run.under(threat, attack))] for run in runs]
            return SeedSpread.of([shares[0] for shares in met if shares])

        first, method = runs[0], runs[0].method
        others = [under(name, ALL_ATTACKS) for name in self.others]
        if others:
            others.append(SeedSpread.of([run.accuracy.union for run in runs if run.accuracy.union is not None]))
        return Row(
            name=first.name,
            title=method.title if first.name == method.name else f"{first.name}: {method.title}",
            clean=SeedSpread.of([run.accuracy.clean for run in runs]),
            pgd=under(self.threat.name, PGD),
            margin=under(self.threat.name, *MARGIN),
            robust=under(self.threat.name, ALL_ATTACKS),
            others=tuple(others),
            seconds=float(np.mean([run.seconds.training for run in runs])),
            passes=(method.passes[0], method.passes[1]),
            seeds=tuple(sorted(run.seed for run in runs)),
            flagged=any(run.flags for run in runs),
        )

    def judged(self, run: Result) -> NDArray[np.bool_]:
        """Which images (N,) a run has right under what the experiments are ranked by."""
        share = run.accuracy.union if self.others else run.under(self.threat.name)
        assert share is not None  # every result has its first threat, and a union where __init__ found one
        return share.outcomes()

    def differences(self, name: str) -> list[str]:
        """One experiment minus each other one: image by image for each seed, and over the seeds, a sentence each.

        The interval of a seed is about the images, for these two models. The one over seeds is Student's, about the
        recipes on these images; it needs two seeds at least.
        """
        ours = {run.seed: self.judged(run) for run in self.results if run.name == name}
        lines: list[str] = []
        for other in [row.name for row in self.rows() if row.name != name]:
            theirs = {run.seed: self.judged(run) for run in self.results if run.name == other}
            lines += seed_differences(name, ours, other, theirs)
        return lines

    def gains(self) -> list[str]:
        """For each run, the paired difference to the undefended network of the same seed, in a sentence."""
        floors = {run.seed: run for run in self.results if run.method.name == BASELINE}
        return [
            f"{run.name} (seed {run.seed}) minus no defence, all attacks: "
            f"{_say(paired_difference(self.judged(floors[run.seed]), self.judged(run)))}"
            for run in self.results
            if run.seed in floors and run is not floors[run.seed]
        ]

    def markdown(self) -> str:
        """The table as GitHub shows it; accuracies in per cent."""
        heads = [*self.heads(), "training", "passes per step"]
        lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 2)}---|"]
        for row in self.rows():
            title = f"{row.title}{' ⚑' if row.flagged else ''}"
            passes = f"{row.passes[0]} forward, {row.passes[1]} backward"
            lines.append(
                f"| {' | '.join([title, *(spread.say() for spread in row.shares()), f'{row.seconds:.0f} s', passes])} |"
            )
        return "\n".join(lines)

    def heads(self) -> list[str]:
        """The names of the table's first columns: the experiment, and what Row.shares holds."""
        threats = {Threat.of(record).name: threat_title(record) for record in self.results[0].threats}
        others = [*(f"all, {threats[name]}" for name in self.others), "union"] if self.others else []
        return ["method", "clean", "PGD-50", "margin", "all attacks", *others]

    def conditions(self) -> str:
        """What the table's numbers are of, in sentences."""
        first = self.results[0]
        seeds = sorted({run.seed for run in self.results})
        threat = threat_title(self.threat.describe())
        attacks = ", ".join(attack_title(item["name"]) for item in first.attacks if item["threat"] == self.threat.name)
        spread = (
            f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))}"
            if len(seeds) > 1
            else f"Seed {seeds[0]}, with 95 % Clopper-Pearson intervals over the images"
        )
        width = first.network.get("width")
        union = " Union: right under every attack of every norm." if self.others else ""
        return (
            f"{first.data.name}, {threat}, {first.sample.size} of {first.sample.of} {first.sample.split} images, "
            f"{first.data.counts['train']} training images, {first.network['name']}"
            f"{f' of width {width}' if width else ''}, setting `reference`, in per cent. {spread}. All attacks: right under "
            f"{attacks}.{union} Training took the stated seconds on one {first.trained_on or first.device} process of "
            f"{first.settings['threads']} thread{'s' if first.settings['threads'] > 1 else ''}."
        )

    def caveat(self) -> str:
        """What the numbers do not carry, in a sentence."""
        weak = (
            ""
            if self.tier == "standard"
            else "AutoAttack was not run, so that robust accuracy may be lower than stated; "
        )
        seeds = len({run.seed for run in self.results})
        few = "one seed says nothing about how a recipe varies" if seeds == 1 else f"{seeds} seeds are few"
        return (
            f"{weak[:1].upper()}{weak[1:]}{few if weak else few[:1].upper() + few[1:]}, neighbouring rows are often no "
            f"further apart than their spread, and a small network on {self.results[0].data.name} at this schedule does not "
            "rank the methods elsewhere."
        )


def seed_differences(first: str, ours: Outcomes, second: str, theirs: Outcomes) -> list[str]:
    """One experiment minus another, a sentence per seed that both have, and one over the seeds where there are two or more.

    Outcomes (N,) by seed; where one side asked more images, the first ones that both asked count.
    """
    pairs = {seed: _paired(theirs[seed], ours[seed]) for seed in sorted(ours.keys() & theirs.keys())}
    lines = [f"{first} minus {second}, seed {seed}: {_say(pair)}" for seed, pair in pairs.items()]
    if len(pairs) > 1:
        values = [pair.difference for pair in pairs.values()]
        half = float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(len(values)))
        mean = float(np.mean(values))
        lines.append(
            f"{first} minus {second}, {len(values)} seeds: {mean:+.1%} [{mean - half:+.1%}, {mean + half:+.1%}]"
        )
    return lines


def _paired(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> PairedDifference:
    images = min(len(a), len(b))
    return paired_difference(a[:images], b[:images])


def _say(pair: PairedDifference) -> str:
    low, high = pair.interval
    return (
        f"{pair.difference:+.1%} [{low:+.1%}, {high:+.1%}], "
        f"{pair.only_b} images won, {pair.only_a} lost of {pair.images}"
    )
