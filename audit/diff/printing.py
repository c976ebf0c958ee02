"""A comparison of two models or recipes on a terminal: the sentence first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from audit.diff.difference import Difference, discordant_words, shares
from audit.diff.recipes import Recipes
from audit.terminal import ABSENT, console
from bundle.pages.wording import attack_title, percent, points
from bundle.process import plain


def print_difference(found: Difference) -> None:
    """The sentence, the cautions, a row a comparison, the discordant images, what changed."""
    out = console()
    _head(out, found.sentence(), found.cautions())
    table = Table("setting", "threat", "attack", "A", "B", "B − A in points", "95 % interval", "A alone", "B alone")
    for item in found.comparisons:
        attack = {None: "clean images", "common": "all that both met"}.get(item.attack) or attack_title(
            item.attack or ""
        )
        low, high = item.pair.interval
        counts = (str(item.pair.only_a), str(item.pair.only_b))
        numbers = (*shares(item), points(item.pair.difference), f"[{points(low)}, {points(high)}]", *counts)
        table.add_row(*map(plain, (item.setting, item.threat or ABSENT, attack, *numbers)))
    out.print(table)
    if found.deciding:
        a, b = (discordant_words(indices) for indices in found.deciding.discordant)
        out.print(
            f"Images by their index in the test split, where it is decided: right in A alone {a}; in B alone {b}."
        )
    _changes(out, found.pair.changed(), found.pair.data())


def print_recipes(found: Recipes) -> None:
    """The sentence, the cautions, a row a comparison with every seed's number, what changed."""
    out = console()
    _head(out, found.sentence(), found.cautions())
    table = Table("setting", "threat", "A by seed", "B by seed", "mean B − A in points", "95 % interval over seeds")
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
    _changes(out, document["changed"], document["data"])


def _head(out: Console, sentence: str, cautions: Sequence[str]) -> None:
    for line in (sentence, *cautions):
        out.print(plain(line), soft_wrap=True)


def _changes(out: Console, changed: Sequence[Mapping[str, Any]], data: Sequence[Mapping[str, Any]]) -> None:
    for title, items in (("Settings that changed", changed), ("Data that differ", data)):
        out.print(f"\n{title}{': none' if not items else ''}")
        for item in items:
            a, b = (ABSENT if item[side] is None else item[side] for side in ("a", "b"))
            out.print(plain(f"  {item['setting']}: {a} → {b}"), soft_wrap=True)
