"""A comparison's numbers: a row a method over its seeds, and paired gains over no defence. Results in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.claims import ALL_ATTACKS
from bundle.comparisons import paired_difference
from bundle.intervals import clopper_pearson
from bundle.wording import attack_title, threat_title
from pipeline.experiments.accuracy import Share
from pipeline.experiments.result import Result

BASELINE = "standard"
PGD, MARGIN = "pgd-50", "margin"


@dataclass(frozen=True)
class Spread:
    """Shares (0 to 1) of one number over seeds: their mean, and low and high ends.

    Several seeds: mean ± standard deviation over seeds. One seed: its 95 % Clopper-Pearson interval.
    """

    mean: float
    low: float
    high: float
    deviation: float | None

    @classmethod
    def of(cls, shares: Sequence[Share]) -> Spread:
        """Over at least one share."""
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
    """One method over its seeds; `union` where its results have one."""

    method: str
    title: str
    clean: Spread
    pgd: Spread
    margin: Spread
    robust: Spread
    union: Spread | None
    seconds: float
    passes: tuple[int, int]
    seeds: tuple[int, ...]
    flagged: bool

    def shares(self) -> tuple[Spread, ...]:
        """Clean, PGD-50, margin, all attacks."""
        return self.clean, self.pgd, self.margin, self.robust


class Comparison:
    """Results of several methods under the same threat, on the same images; raises ValueError where there are none."""

    def __init__(self, results: Sequence[Result]) -> None:
        if not results:
            raise ValueError("a comparison needs results")
        self.results = list(results)
        self.threat = results[0].first_threat()
        self.tier = results[0].settings["attack"]["tier"]

    def rows(self) -> list[Row]:
        """The methods, most robust first."""
        names = dict.fromkeys(result.method.name for result in self.results)
        rows = [self._row([result for result in self.results if result.method.name == name]) for name in names]
        return sorted(rows, key=lambda row: (-row.robust.mean, -row.clean.mean, row.method))

    def _row(self, runs: list[Result]) -> Row:
        def spread(share: Callable[[Result], Share | None]) -> Spread | None:
            found = [value for run in runs if (value := share(run)) is not None]
            return Spread.of(found) if found else None

        def under(attack: str) -> Spread:
            found = spread(lambda run: run.under(self.threat.name, attack))
            assert found is not None  # every tier runs these attacks
            return found

        clean = spread(lambda run: run.accuracy.clean)
        assert clean is not None
        return Row(
            method=runs[0].method.name,
            title=runs[0].method.title,
            clean=clean,
            pgd=under(PGD),
            margin=under(MARGIN),
            robust=under(ALL_ATTACKS),
            union=spread(lambda run: run.accuracy.union),
            seconds=float(np.mean([run.seconds.training for run in runs])),
            passes=(runs[0].method.passes[0], runs[0].method.passes[1]),
            seeds=tuple(sorted(run.seed for run in runs)),
            flagged=any(run.flags for run in runs),
        )

    def gains(self, attack: str = ALL_ATTACKS) -> list[str]:
        """For each run, the paired difference to the undefended network of the same seed, in a sentence."""
        floors = {run.seed: run for run in self.results if run.method.name == BASELINE}
        lines: list[str] = []
        for run in self.results:
            floor = floors.get(run.seed)
            ours, theirs = run.under(self.threat.name, attack), floor and floor.under(self.threat.name, attack)
            if run is floor or ours is None or theirs is None:
                continue
            gain = paired_difference(theirs.outcomes(), ours.outcomes())
            low, high = gain.interval
            lines.append(
                f"{run.method.name} (seed {run.seed}) minus no defence, {attack_title(attack)}: {gain.difference:+.1%} "
                f"[{low:+.1%}, {high:+.1%}], {gain.only_b} images won, {gain.only_a} lost of {gain.images}"
            )
        return lines

    def markdown(self) -> str:
        """The table as GitHub shows it; shares in per cent."""
        with_union = any(row.union for row in self.rows())
        heads = ["method", "clean", "PGD-50", "margin", "all attacks", *(["union"] if with_union else [])]
        lines = [
            f"| {' | '.join([*heads, 'training', 'passes a step'])} |",
            f"|---|{'---:|' * (len(heads) - 1)}---:|---|",
        ]
        for row in self.rows():
            cells = [spread.say() for spread in row.shares()]
            cells += [row.union.say() if row.union else "not run"] if with_union else []
            title = f"{row.title}{' ⚑' if row.flagged else ''}"
            passes = f"{row.passes[0]} forward, {row.passes[1]} backward"
            lines.append(f"| {' | '.join([title, *cells, f'{row.seconds:.0f} s', passes])} |")
        return "\n".join(lines)

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
        return (
            f"{first.data.name}, {threat}, {first.sample.size} of {first.sample.of} {first.sample.split} images, "
            f"{first.data.counts['train']} training images, {first.network['name']}"
            f"{f' of width {width}' if width else ''}, setting `reference`, in per cent. {spread}. All attacks: right under "
            f"{attacks}. Training took the stated seconds on one {first.device} process of {first.settings['threads']} "
            f"thread{'s' if first.settings['threads'] > 1 else ''}."
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
