"""How names, shares and settings are written for people, the same in the report, the card and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from bundle.claims import ALL_ATTACKS

TITLES = {"autoattack": "AutoAttack", "margin": "margin attack", ALL_ATTACKS: "all attacks"}


def attack_title(name: str) -> str:
    """An attack's name as people write it: `pgd-10` is PGD-10."""
    return TITLES.get(name) or (name.upper() if name.removeprefix("pgd-").isdigit() else name)


def threat_title(threat: Mapping[str, Any]) -> str:
    """A threat as people write it: l∞ 8/255, l2 0.5."""
    if threat["norm"] == "linf":
        return f"l∞ {threat['eps_255']:g}/255"
    return f"{threat['norm']} {threat['eps']:g}"


def attackers_power(threat: Mapping[str, Any]) -> str:
    """What an attacker may do, for people who do not know norms: `change every pixel value by up to …`."""
    if threat["norm"] == "linf":
        return f"change every pixel value by up to {threat['levels']} of 255 levels"
    sizes = {"l2": "the root of the sum of the squared changes", "l1": "the sum of the changes"}
    return (
        f"change pixel values, which run from 0 to 1, by up to {threat['eps']:g} in {threat['norm']} "
        f"({sizes[threat['norm']]} of an image)"
    )


def threat_name_title(predicate: Mapping[str, Any], name: str) -> str:
    """The same, for the threat of this name (`linf-8`)."""
    return next((threat_title(threat) for threat in predicate["threats"] if threat["name"] == name), name)


def percent(share: float) -> str:
    """A share in per cent with one decimal: 0.87 is `87.0 %`."""
    return f"{100 * share:.1f} %"


def interval(claim: Mapping[str, Any]) -> str:
    """A claim's interval in per cent: `81.5 to 91.3 %`."""
    lower, upper = claim["interval"]
    return f"{100 * lower:.1f} to {percent(upper)}"


def number(value: float) -> str:
    """A measured number with four significant digits."""
    return f"{value:.4g}".replace("-", "\u2212", 1) if value < 0 else f"{value:.4g}"


def signed(value: float) -> str:
    """A margin with its sign and two decimals: −1.75."""
    return f"{value:+.2f}".replace("-", "\u2212")


def comparator(symbol: str) -> str:
    """`<=` and `>=` as people write them."""
    return {"<=": "≤", ">=": "≥"}[symbol]


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings, sorted by name: (`train.epochs`, 20)."""
    for name, value in sorted(section.items()):
        if isinstance(value, Mapping) and value:
            yield from leaves(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, cast(list[Any], value))) if isinstance(value, list) else value


def settings(section: Mapping[str, Any]) -> str:
    """Nested settings in one line: `restarts 1, steps 10`."""
    return ", ".join(f"{name} {value}" for name, value in leaves(section))


def additional_images(data: Mapping[str, Any]) -> str:
    """The predicate's `data.extra` in words: how many, which share of a batch, which file."""
    extra = data["extra"]
    return (
        f"{extra['images']:,} additional training images, {extra['share']:.0%} of every batch "
        f"(SHA-256 {extra['file_sha256'][:12]})"
    )


#: The filters of the templates.
FILTERS: dict[str, Callable[..., Any]] = {
    "attack_title": attack_title,
    "threat_title": threat_title,
    "attackers_power": attackers_power,
    "percent": percent,
    "interval": interval,
    "number": number,
    "comparator": comparator,
    "settings": settings,
    "additional": additional_images,
}
