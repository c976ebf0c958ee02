"""How names, accuracies and settings are written for people, the same in the report, the card and the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from bundle.command_line import DISTRIBUTION
from bundle.layout import BOM
from bundle.leakage import leakage_sentence
from bundle.numbers.claims import ALL_ATTACKS

#: What an auditor types first. The version is pyproject.toml's: a bento has the code without its metadata.
INSTALL = f"pip install {DISTRIBUTION}==0.1.0"
TITLES = {
    "noise": "random noise",
    "fgsm": "FGSM",
    "margin": "margin attack",
    "autoattack": "AutoAttack",
    "autoattack-plus": "AutoAttack plus",
    "autoattack-rand": "AutoAttack rand",
    "adaptive": "adaptive (co-trained networks together)",
    "square-onnx": "Square, queries on the served file",
    "cw": "C&W",
    ALL_ATTACKS: "all attacks",
}
#: The same beside an axis, where the title is too long.
LABELS = {"adaptive": "adaptive", "square-onnx": "Square, queries"}
#: The order of the two settings on every page: first the one that answers.
SHOWN = ("served", "reference")
#: What a tier ran, in a few words.
TIERS = {
    "quick": "a first look: noise, PGD and the margin attack",
    "standard": "the tier that people quote, with AutoAttack",
    "thorough": "standard, and more restarts, more seeds and stronger versions",
}
#: A name that a merge gave to an attack of another run: `NAME-seed-3` or `NAME-2`.
REPEATED = re.compile(r"(?P<name>.+?)(?:-seed-(?P<seed>\d+)|-(?P<run>\d+))")
TRANSFER = "transfer-"
#: The method's name where a model was trained elsewhere.
EXTERNAL = "external"


def data_title(data: Mapping[str, Any]) -> str:
    """The data set's name as its owner gave it, else the one that its reader has."""
    return data.get("title") or data["name"]


def attack_title(name: str) -> str:
    """An attack's name as people write it: `pgd-10` is PGD-10, `autoattack-seed-1` is AutoAttack, seed 1."""
    return _attack(name, TITLES)


def attack_label(name: str) -> str:
    """The same in at most about 20 characters, for the axis of a figure."""
    return _attack(name, {**TITLES, **LABELS}).replace("transfer from the ", "from the ")


def _attack(name: str, titles: Mapping[str, str]) -> str:
    if (title := _single(name, titles)) is not None:
        return title
    repeated = REPEATED.fullmatch(name)
    title = repeated and _single(repeated["name"], titles)
    if repeated is None or title is None:
        return name
    return f"{title}, seed {repeated['seed']}" if repeated["seed"] else f"{title}, run {repeated['run']}"


def _single(name: str, titles: Mapping[str, str]) -> str | None:
    """The title of a name without the ending that a merge gives; None for an attack that came from elsewhere."""
    if name.startswith(TRANSFER) and "-seed-" not in name:
        return f"transfer from the {name.removeprefix(TRANSFER).replace('_', ' ')}"
    if name.startswith("pgd-") and name.removeprefix("pgd-").isdigit():
        return name.upper()
    return titles.get(name)


def threat_title(threat: Mapping[str, Any]) -> str:
    """A threat as people write it: l∞ 8/255, l2 0.5."""
    if threat["norm"] == "linf":
        return f"l∞ {threat['eps_255']:g}/255"
    return f"{threat['norm']} {threat['eps']:g}"


def headline_threat_title(robust: Mapping[str, Any]) -> str:
    """The same, for the `robust` of a headline (bundle.pages.headline), whose `threat` begins with the norm."""
    return threat_title({**robust, "norm": robust["threat"].partition("-")[0]})


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


def union_title(predicate: Mapping[str, Any], union: Mapping[str, Any]) -> str:
    """A union of threats as people write it: union of l∞ 8/255 and l2 0.5."""
    titles = [threat_name_title(predicate, name) for name in union["threats"]]
    return f"union of {listing(titles)}"


def ball_title(predicate: Mapping[str, Any], name: str) -> str:
    """The title of the threat or of the union of this name."""
    union = next((item for item in predicate["unions"] if item["name"] == name), None)
    return union_title(predicate, union) if union else threat_name_title(predicate, name)


def listing(items: Sequence[str]) -> str:
    """One, two or more things in a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def sample_scope(sample: Mapping[str, Any]) -> str:
    """What the intervals are about, in one sentence, where the sample is not the whole test set; else nothing."""
    if sample["size"] >= sample["of"]:
        return ""
    return (
        f"Measured on {sample['size']} of {sample['of']} test images: every interval is about the drawing of these "
        "images, for this model and these attacks, and not about the attacks' weakness."
    )


def trained(method: Mapping[str, Any]) -> str:
    """How a model was trained: `Trained with D²R-CAG (Liu et al. 2025)`, or `Trained elsewhere`."""
    if method["name"] == EXTERNAL:
        return "Trained elsewhere"
    notes = [
        *([method["paper"]] if method["paper"] else []),
        *(["a reconstruction"] if method["reconstructed"] else []),
    ]
    return f"Trained with {method['title']}" + (f" ({', '.join(notes)})" if notes else "")


def chosen_by(selection: Mapping[str, Any]) -> str:
    """How the weights were chosen: `epoch 10: …`, or that nobody here knows."""
    if selection["split"] == "unknown":
        return (
            f"trained elsewhere, so how its weights were chosen, and on which images, is not known: {selection['rule']}"
        )
    return f"epoch {selection['epoch']}: {selection['rule']}"


def counted(reads: Mapping[str, Any]) -> str:
    """How many models were measured on the test split, as far as it can be known: `3`, or `3 or more`."""
    return str(reads["models"]) + ("" if reads.get("complete", True) else " or more, git's history was not all there")


def corruption_title(name: str) -> str:
    """A corruption's name as people write it: `gaussian_noise` is Gaussian noise."""
    return name.replace("_", " ").replace("-", " ").replace("gaussian", "Gaussian").replace("jpeg", "JPEG")


def percent(fraction: float) -> str:
    """A fraction in per cent with one decimal: 0.87 is `87.0 %`."""
    return f"{100 * fraction:.1f} %"


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
    return {"<=": "≤", ">=": "≥"}.get(symbol, symbol)


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings, sorted by name: (`train.epochs`, 20)."""
    for name, value in sorted(section.items()):
        if isinstance(value, Mapping) and value:
            yield from leaves(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(map(str, cast(list[Any], value))) if isinstance(value, list) else value


def environment(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate's `environment` as people read it: the hundred packages of `installed` as their number."""
    stated = dict(predicate["environment"])
    if "installed" in stated:
        stated["installed"] = f"{len(stated['installed'])} packages, listed in {BOM}"
    return stated


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


def data_leaks(data: Mapping[str, Any]) -> str:
    """The predicate's `data.leakage` in words."""
    return leakage_sentence(data.get("leakage", {}))


#: The filters of the templates.
FILTERS: dict[str, Callable[..., Any]] = {
    "attack_title": attack_title,
    "chosen_by": chosen_by,
    "counted": counted,
    "data_title": data_title,
    "trained": trained,
    "corruption_title": corruption_title,
    "threat_title": threat_title,
    "attackers_power": attackers_power,
    "percent": percent,
    "interval": interval,
    "number": number,
    "comparator": comparator,
    "settings": settings,
    "additional": additional_images,
    "leaks": data_leaks,
}


def points(fraction: float) -> str:
    """A difference of fractions in points with its sign: 0.031 is `+3.1`."""
    return f"{100 * fraction:+.1f}".replace("-", "−")
