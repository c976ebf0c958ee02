"""What an attestation answers to a question that a standard raises: measured, recorded, not tested, or not its matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bundle.layout import BOM, CARD, ENVELOPE, IMAGES, MODEL, OUTCOMES
from bundle.pages import headline
from bundle.pages.wording import (
    EXTERNAL,
    attack_title,
    chosen_by,
    corruption_title,
    interval,
    listing,
    percent,
    threat_title,
    trained,
    union_title,
)
from bundle.private import is_private

Status = Literal["measured", "recorded", "not tested", "elsewhere"]
Predicate = Mapping[str, Any]

#: Attacks that see neither gradients nor the network's inside, by the beginning of their names.
BLIND = ("noise", "square", "transfer-")
#: The method that is no defence.
UNDEFENDED = "standard"
#: Attacks that ask for scores alone.
QUERIES = ("square",)


@dataclass(frozen=True)
class Answer:
    """A status, a sentence or two, and the fields of the predicate and the files of the bundle where it is to be read.

    `measured`: numbers that follow from the outcome table or were taken by the evaluation. `recorded`: said, so that it
    can be judged, but nothing was measured. `not tested`: nothing is known. `elsewhere`: a matter of the system around
    the model, or of its purpose.
    """

    status: Status
    text: str
    where: tuple[str, ...] = ()


def not_tested(text: str, *where: str) -> Answer:
    """Nothing is known; `where` says it too, or helps someone who tests it."""
    return Answer("not tested", text, where)


def elsewhere(text: str, *where: str) -> Answer:
    """A matter that one model file cannot decide."""
    return Answer("elsewhere", text, where)


def percent_with_interval(item: Mapping[str, Any]) -> str:
    """`87.5 % (80.1 to 92.8 %)`."""
    return f"{percent(item['value'])} ({interval(item)})"


def clean(predicate: Predicate) -> Answer:
    """Accuracy on images that nobody changed, in the served setting."""
    found = headline.clean_claim(predicate, "served")
    sample = predicate["sample"]
    of = f"{sample['size']} of {sample['of']} test images of {predicate['data']['name']}"
    text = f"Clean accuracy {percent_with_interval(found)} on {of}. Each number has its metric, its count and its interval."
    return Answer("measured", text, ("claims", "perClass", "calibration", "data", CARD))


def evasion(predicate: Predicate) -> Answer:
    """Robust accuracy at every threat and union but the points of a sweep, in the served setting."""
    balls = [(threat_title(item), item["name"]) for item in headline.main_threats(predicate)]
    balls += [(union_title(predicate, item), item["name"]) for item in predicate["unions"]]
    numbers = [
        f"{title}: {percent_with_interval(headline.robust_claim(predicate, 'served', name))}" for title, name in balls
    ]
    text = f"Share right under every attack that was run: {'; '.join(numbers)}. These are upper bounds."
    absent = [threat_title(item) for item in headline.main_threats(predicate) if not _by_autoattack(predicate, item)]
    if absent:
        text += f" AutoAttack was not run at {listing(absent)}."
    evidence = "privateEvidence" if is_private(predicate) else IMAGES
    return Answer("measured", text, ("claims", "attacks", "threats", "notTested", OUTCOMES, evidence))


def corruptions(predicate: Predicate) -> Answer:
    """Common corruptions of the input, without an attacker."""
    mean = headline.corruption_mean(predicate)
    if mean is None:
        return not_tested("Images with blur, noise, weather or compression were not tried.", "corruptions", "notTested")
    single = (item for item in predicate["corruptionAccuracy"] if item["corruption"] != "all")
    worst = min(single, key=lambda item: item["value"])
    text = (
        f"Accuracy {percent(mean['value'])} on the mean of {len(predicate['corruptions']['names'])} common corruptions; "
        f"lowest for {corruption_title(worst['corruption'])}, severity {worst['severity']}: {percent_with_interval(worst)}. "
        "Other faults of the input were not tried."
    )
    return Answer("measured", text, ("corruptions", "corruptionAccuracy", OUTCOMES))


def inconsistency(predicate: Predicate) -> Answer:
    """Between the trained network, the exported file and the host that serves it."""
    parity, check = predicate["parity"], predicate["selfCheck"]
    text = (
        f"The exported file and the trained network answered differently on {parity['disagreements']} of "
        f"{parity['images']} images. Before it is ready the service replays the {check['rows']} closest verdicts on its "
        f"host, alone and in a batch, and allows {check['allowedMoved']} to move. Faults of hardware or of other parts "
        "were not tried."
    )
    return Answer("measured", text, ("parity", "agreement", "selfCheck", "environment"))


def flaws(predicate: Predicate) -> Answer:
    """What the sanity checks, the attacks' flags and the classes say."""
    outcomes = [item["outcome"] for item in predicate["sanity"]]
    flags = sum(len(item["flags"]) for item in predicate["attacks"])
    threat = headline.headline_threat(predicate)
    worst = headline.worst_class(predicate, "served", threat["name"])
    checked = f"{len(outcomes)} run, {outcomes.count('fail')} failed, {outcomes.count('warn')} with a warning"
    text = (
        f"Sanity checks: {checked if outcomes else 'none was run'}. Warnings that attacks raised: {flags}. At "
        f"{threat_title(threat)} the class {worst['class']} fares worst: {percent_with_interval(worst)}."
    )
    fields = ("sanity", "attacks", "worstClass", "calibration", "reliable")
    return Answer("measured" if outcomes else "not tested", text, fields)


def methods(predicate: Predicate) -> Answer:
    """Which attacks were run, by whose code, in which tier."""
    names = dict.fromkeys(attack_title(item["name"]) for item in predicate["attacks"])
    harnesses = dict.fromkeys(
        f"{item['harness']['name']} {item['harness']['version']}" for item in predicate["attacks"]
    )
    text = f"Tier {predicate['tier']}: {listing(list(names))}, by {listing(list(harnesses))}, with all settings."
    return Answer("recorded", text, ("tier", "attacks", "sanity", "testReads"))


def workflow(predicate: Predicate) -> Answer:
    """Goals, plan, conduct, analysis: what of it is written down. Whether a goal is met is a policy's matter."""
    balls = listing([threat_title(item) for item in predicate["threats"]])
    text = (
        f"Threats ({balls}), sample, attacks and settings, outcomes image by image and the numbers from them are written "
        f"down; the weights were chosen so: {chosen_by(predicate['selection'])}. No target is set here."
    )
    return Answer("recorded", text, ("threats", "sample", "selection", "attacks", "claims", OUTCOMES))


def black_box(predicate: Predicate) -> Answer:
    """Attacks that see scores alone."""
    used = _named(predicate, QUERIES)
    inside = " AutoAttack has a part that only asks for scores." if "autoattack" in _first_words(predicate) else ""
    if not used and not inside:
        return not_tested("No attack through queries alone was run.", "attacks", "notTested")
    text = f"{listing(used)} was run." if used else "No separate attack through queries alone was run."
    return Answer("measured", f"{text}{inside} Attacks that see only the class were not run.", ("attacks", "claims"))


def white_box(predicate: Predicate) -> Answer:
    """Attacks that follow gradients."""
    names = dict.fromkeys(
        attack_title(item["name"]) for item in predicate["attacks"] if not item["name"].startswith(BLIND)
    )
    if not names:
        return not_tested("No attack that follows gradients was run.", "attacks")
    return Answer("measured", f"{listing(list(names))}. {evasion(predicate).text}", ("attacks", "claims"))


def transfer(predicate: Predicate) -> Answer:
    """Adversarial images of other models."""
    used = _named(predicate, ("transfer-",))
    if not used:
        return not_tested("Adversarial images of other models were not tried.", "attacks", "notTested")
    return Answer("measured", f"Tried: {listing(used)}.", ("attacks", "claims"))


def adaptive(predicate: Predicate) -> Answer:
    """An attacker who knows the method of defence."""
    method = trained(predicate["method"])
    if used := _named(predicate, ("adaptive",)):
        return Answer("measured", f"{method}; an attack made for it was run: {listing(used)}.", ("attacks",))
    text = f"{method}; the attacks know the network and its weights, none was made for its training alone."
    return not_tested(text, "method", "attacks", "notTested")


def knowledge(predicate: Predicate) -> Answer:
    """What attackers were assumed to know."""
    parts = [white_box(predicate).status == "measured", black_box(predicate).status == "measured"]
    known = [name for name, there in zip(("white box", "black box"), parts, strict=True) if there]
    return Answer("recorded", f"{listing(known) or 'none'}: see the rows on evasion.", ("attacks",))


def training(predicate: Predicate) -> Answer:
    """The defence by training, and whether it is a reconstruction."""
    text = f"{trained(predicate['method'])}. What it is worth is for the attacks to say."
    return Answer("recorded", text, ("method",))


def hardening(predicate: Predicate) -> Answer:
    """Whether training was a defence, with what the attacks leave of it."""
    method = predicate["method"]
    if method["name"] == EXTERNAL:
        text = f"{trained(method)}: whether against attacks is not known here."
    elif method["name"] == UNDEFENDED:
        text = f"{trained(method)}, which is no defence."
    else:
        text = f"{trained(method)}, a defence by training."
    return Answer("recorded", f"{text} {evasion(predicate).text}", ("method", "claims"))


def served_file(predicate: Predicate) -> Answer:
    """That the numbers are about the deployed file, however it was made from the trained network."""
    parity = predicate["parity"]
    text = (
        f"The numbers of the setting served are those of {MODEL} itself: another file, a quantized one too, has another "
        f"digest and none of them. Its answers and the trained network's differ on {parity['disagreements']} of "
        f"{parity['images']} images. Safety and alignment of content are no matter of a classifier."
    )
    return Answer("measured", text, ("claims", "agreement", "parity", MODEL))


def signing(predicate: Predicate) -> Answer:
    """What a signature covers; whether there is one lies beside the predicate."""
    return Answer("recorded", f"{_covered(predicate)}: the model, its weights and their configuration.", ("files",))


def signed_materials(predicate: Predicate) -> Answer:
    """The same for the bill of materials."""
    text = f"{BOM} (CycloneDX 1.6) is one of the files. {_covered(predicate)}."
    return Answer("recorded", text, ("files", BOM))


def _covered(predicate: Predicate) -> str:
    return (
        f"A signature ({ENVELOPE}, where there is one) is over the attestation, and so over the SHA-256 of {MODEL} and of "
        f"the {len(predicate['files'])} files beside it"
    )


def integrity(predicate: Predicate) -> Answer:
    """Which changes of the files are noticed."""
    text = (
        f"A change of {MODEL} or of the {len(predicate['files'])} files beside it is found by their SHA-256. Who vouches "
        f"for them is said by a signature ({ENVELOPE}), where there is one. Host, network and access are not looked at."
    )
    return Answer("recorded", text, ("files",))


def poisoning(predicate: Predicate) -> Answer:
    """Tampered training data: nothing is measured, but which data was used is said."""
    text = (
        f"Not tried. The data is named by digests: {predicate['data']['name']}, licence {predicate['data']['licence']}."
    )
    return not_tested(text, "data", "notTested")


def _by_autoattack(predicate: Predicate, threat: Mapping[str, Any]) -> bool:
    return headline.by_autoattack(predicate, threat["name"])


def _named(predicate: Predicate, beginnings: Sequence[str]) -> list[str]:
    found = (item["name"] for item in predicate["attacks"] if item["name"].startswith(tuple(beginnings)))
    return list(dict.fromkeys(map(attack_title, found)))


def _first_words(predicate: Predicate) -> set[str]:
    return {item["name"].split("-")[0] for item in predicate["attacks"]}
