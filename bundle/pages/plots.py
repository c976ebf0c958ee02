"""Which figures a report shows, in which order, and how each is to be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundle.numbers.breakdowns import worst_answers
from bundle.numbers.claims import ALL_ATTACKS
from bundle.pages import figures, headline
from bundle.pages.gallery import closest_attacks
from bundle.pages.wording import SHOWN, attack_label, interval, number, percent, threat_name_title, threat_title
from bundle.table.outcomes import Outcomes
from bundle.table.threats import RADIUS_FIELD, Norm


@dataclass(frozen=True)
class Plot:
    """A figure (SVG) with its heading and a caption that says how to read it."""

    heading: str
    figure: str
    caption: str


def plots(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Iterator[Plot]:
    """The report's figures about the headline's `threat`, the most telling first."""
    yield _by_attack(predicate, threat)
    if curve := predicate["selection"].get("curve"):
        yield _training(curve, predicate["selection"]["epoch"])
    yield _by_eps(predicate, threat)
    yield _by_class(predicate, threat)
    yield _confusion(predicate, threat, outcomes)
    yield _margins(predicate, threat, outcomes)
    yield _reliability(predicate, threat, outcomes)
    if predicate["surface"]:
        yield _surface(predicate)
    if predicate["smoothing"]:
        yield _certified(predicate, outcomes)


def _by_attack(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> Plot:
    served, reference = (headline.clean_claim(predicate, setting) for setting in SHOWN)
    rows = [("clean", served, reference)]
    for name in [*headline.attack_names(predicate, threat["name"]), ALL_ATTACKS]:
        served, reference = (headline.robust_claim(predicate, setting, threat["name"], name) for setting in SHOWN)
        rows.append((attack_label(name), served, reference))
    return Plot(
        "By attack",
        figures.by_attack(rows, threat_title(threat)),
        "Whiskers are 95 % intervals. The weakest point of a model is what counts: all attacks together.",
    )


def _training(curve: Sequence[Mapping[str, Any]], selected: int) -> Plot:
    return Plot(
        "While it trained",
        figures.training(curve, selected),
        f"Validation images, which no weight saw; PGD-10 at the radius of training. The weights of epoch {selected}, the "
        "vertical line, were chosen. Where accuracy under PGD-10 falls while the loss still does, training overfits.",
    )


def _by_eps(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> Plot:
    points, field = _eps_points(predicate, threat["norm"]), RADIUS_FIELD[threat["norm"]]
    lighter = [
        item
        for item in predicate["threats"]
        if item["norm"] == threat["norm"] and not headline.by_autoattack(predicate, item["name"])
    ]
    alone = all(headline.attack_names(predicate, item["name"]) == ["margin"] for item in lighter)
    name = "margin attack alone" if alone else "without AutoAttack"
    caption = (
        "At ε = 0 nobody attacks. Accuracy should fall towards zero as ε grows, or the attacks do not work. "
        + ("Lines only join the measured points." if len(points["served"]) > 2 else "Only these sizes were measured.")
        + (" A hollow point had fewer attacks, so a true value may lie further below it." if lighter else "")
    )
    figure = figures.by_eps(points, threat["norm"], [item[field] for item in lighter], name)
    return Plot("Against the size of the perturbation", figure, caption)


def _eps_points(predicate: Mapping[str, Any], norm: Norm) -> dict[str, list[tuple[float, Any]]]:
    """Claims against the radius, for one norm: radii of different norms do not go on one axis."""
    field = RADIUS_FIELD[norm]
    threats = sorted((item for item in predicate["threats"] if item["norm"] == norm), key=lambda item: item[field])
    return {
        setting: [
            (0.0, headline.clean_claim(predicate, setting)),
            *((threat[field], headline.robust_claim(predicate, setting, threat["name"])) for threat in threats),
        ]
        for setting in SHOWN
    }


def _by_class(predicate: Mapping[str, Any], threat: Mapping[str, Any]) -> Plot:
    accuracies = [
        figures.ClassAccuracy(item["class"], item["correct"], item["cleanCorrect"], item["sampleSize"])
        for item in predicate["perClass"]
        if item["setting"] == "served" and item["threat"] == threat["name"]
    ]
    worst = headline.worst_class(predicate, "served", threat["name"])
    caption = (
        f"Served setting, {threat_title(threat)}, worst class first. Few images per class make wide intervals. The worst "
        f"is {worst['class']}: {percent(worst['value'])}. It was picked after looking, so its interval is one that "
        f"holds for every class at once: {interval(worst)}."
    )
    if len(accuracies) > figures.CLASSES_SHOWN:
        caption += f" The {figures.CLASSES_SHOWN} worst of {len(accuracies)} classes are shown."
    if missing := len(predicate["data"]["classes"]) - len(accuracies):
        caption += f" The sample has no image of {missing} other classes."
    return Plot("By class", figures.by_class(accuracies), caption)


def _confusion(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Plot:
    names, attacks = predicate["data"]["classes"], headline.attack_names(predicate, threat["name"])
    closest, _ = closest_attacks(outcomes, threat["name"], attacks)
    found = np.stack([outcomes[f"served/{threat['name']}/{name}/prediction"] for name in attacks])
    answers = found[closest, np.arange(len(closest))]
    counts = np.bincount(outcomes["label"] * len(names) + answers, minlength=len(names) ** 2)
    few = len(names) <= figures.HEAT_MAP_CLASSES
    how = (
        "A row is a label, a column an answer; the colour is the share of the label's images."
        if few
        else f"The {figures.PAIRS_SHOWN} most frequent confusions, label → answer."
    )
    return Plot(
        "Confused under attack",
        figures.confusion(counts.reshape(len(names), -1), names),
        f"Served setting, {threat_title(threat)}: the answer to each image as the attack that came closest left it. {how}",
    )


def _margins(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Plot:
    names, clean = headline.attack_names(predicate, threat["name"]), outcomes["served/clean/margin"]
    _, margins = closest_attacks(outcomes, threat["name"], names)
    right = outcomes.robust("served", threat["name"], names)
    return Plot(
        "How close the calls are",
        figures.margin_histogram(np.minimum(margins, clean), right, clean),
        f"Served setting, {threat_title(threat)}. Filled: the lowest margin that any attack left on each image; line: "
        "the same images when clean. The margin is the logit of the right class minus the largest other: below zero "
        "the answer is wrong, and images just above zero are the next to fall.",
    )


def _reliability(predicate: Mapping[str, Any], threat: Mapping[str, Any], outcomes: Outcomes) -> Plot:
    prefixes = [f"served/{threat['name']}/{name}" for name in headline.attack_names(predicate, threat["name"])]
    series = {
        "clean": figures.bins_of(outcomes["served/clean/confidence"], outcomes.clean_right("served")),
        "under attack": figures.bins_of(*worst_answers(outcomes, prefixes)),
    }
    errors = [headline.calibration(predicate, "served", name)["value"] for name in (None, threat["name"])]
    return Plot(
        "Can the confidence be believed",
        figures.reliability(series),
        f"Served setting, {threat_title(threat)}. Below the dashed line the model is surer than it should be; a mark's "
        f"area is its share of the images. Expected calibration error: {percent(errors[0])} clean, "
        f"{percent(errors[1])} under attack.",
    )


def _surface(predicate: Mapping[str, Any]) -> Plot:
    drawn = predicate["surface"]
    size = threat_name_title(predicate, drawn["threat"])
    return Plot(
        "The loss around an image",
        figures.surface(drawn["losses"], drawn["span"], f"ε is {size}; image {drawn['rows'][0]} of the test split"),
        f"Cross-entropy around image #{drawn['rows'][0]} of the test split (the cross), ε being {size}; the same shades "
        "for every model, so that two reports can be laid side by side. Roughness "
        f"{number(drawn['roughness'])}: {drawn['roughnessMeaning'].rstrip('.')}.",
    )


def _certified(predicate: Mapping[str, Any], outcomes: Outcomes) -> Plot:
    classifiers = [
        figures.Certified(
            item["sigma"],
            outcomes[f"{item['name']}/radius"] * (outcomes[f"{item['name']}/selected"] == outcomes["label"]),
            item["radii"],
        )
        for item in predicate["smoothing"]
    ]
    return Plot(
        "Certified: the smoothed classifier",
        figures.certified_curve(classifiers),
        "A lower bound about another classifier than the one that answers, in l2: no attack inside the radius "
        "changes its answer, up to the stated chance of error. The band is the 95 % interval over images.",
    )
