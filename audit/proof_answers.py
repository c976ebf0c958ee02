"""What an attestation answers where a standard asks for formal methods: proofs, smoothing, sensitivity, the domain."""

from __future__ import annotations

from audit.answers import Answer, Predicate, not_tested, percent_with_interval
from bundle.layout import MODEL
from bundle.numbers.claims import find_claim
from bundle.pages.card import SERVED
from bundle.pages.wording import (
    attack_title,
    listing,
    number,
    threat_title,
)


def proofs(predicate: Predicate) -> Answer:
    """Bounds that hold for every perturbation in a ball: about the served classifier first, then about smoothed ones."""
    own, votes = proved_numbers(predicate), smoothed_numbers(predicate)
    if not own and not votes:
        return not_tested("Nothing was proved, neither of this classifier nor of a smoothed one.", "notTested")
    mine = f"Of this classifier: {'; '.join(own)}." if own else "Of this classifier itself nothing was proved."
    others = f" Of another, the smoothed classifier: {'; '.join(votes)}." if votes else ""
    return Answer("measured" if own else "not tested", mine + others, _proof_fields(predicate))


def kinds_of_proof(predicate: Predicate) -> Answer:
    """Complete or not, deterministic or not, with or without the network's inside, in which arithmetic."""
    said = [
        f"{item['technique']} in {item['norm']}: incomplete, deterministic, knows the network; {item['arithmetic']}"
        for item in predicate.get("proofs", [])
    ]
    said += [
        f"smoothing with sigma {number(item['sigma'])} in l2: incomplete, by sampling, each radius too large with chance "
        f"at most {number(item['alpha'])}, knows only answers"
        for item in predicate["smoothing"]
    ]
    if not said:
        return not_tested("No formal method was used.", "notTested")
    return Answer("recorded", f"{'; '.join(said)}.", _proof_fields(predicate))


def smoothing(predicate: Predicate) -> Answer:
    """Certified accuracy of smoothed classifiers."""
    numbers = smoothed_numbers(predicate)
    if not numbers:
        return not_tested("No smoothed classifier was measured.", "smoothing", "notTested")
    text = f"{'; '.join(numbers)}. These are lower bounds about a classifier that {MODEL} alone is not."
    return Answer("measured", text, ("smoothing", "bounds"))


def verification(predicate: Predicate) -> Answer:
    """Proofs about the served classifier itself."""
    numbers = proved_numbers(predicate)
    if not numbers:
        return not_tested("Nothing was proved of the served classifier.", "bounds")
    return Answer("measured", f"{'; '.join(numbers)}. These are lower bounds.", ("proofs", "bounds"))


def proved_numbers(predicate: Predicate) -> list[str]:
    """Certified accuracies of the served classifier, as text."""
    return [
        f"{threat_title(item)}: {percent_with_interval(item)} by {item['technique']}"
        for item in predicate["bounds"]
        if item["classifier"] == SERVED and item["metric"] == "certified_accuracy"
    ]


def smoothed_numbers(predicate: Predicate) -> list[str]:
    """For each smoothed classifier its certified accuracy at the middle of its radii, as text."""
    found: list[str] = []
    for item in predicate["smoothing"]:
        if radii := sorted(item["radii"]):
            radius = radii[len(radii) // 2]
            claim = find_claim(predicate, "certified_accuracy", classifier=item["name"], radius=radius)
            assert claim is not None  # claims() makes one for each radius
            found.append(f"{item['name']} at l2 {number(radius)}: {percent_with_interval(claim)}")
    return found


def _proof_fields(predicate: Predicate) -> tuple[str, ...]:
    return (*(["proofs"] if predicate.get("proofs") else []), "smoothing", "bounds")


def sensitivity(predicate: Predicate) -> Answer:
    """How far an image must be changed, and how the loss rises around it: found by search, not proved."""
    found = [
        f"{attack_title(item['name'])} changed the answer for {item['found']} of {item['sampleSize']} images, half of all "
        f"images within {item['norm']} {number(item['quantiles']['50'])}"
        for item in predicate["minimumDistances"]
        if item["quantiles"]["50"] is not None
    ]
    if predicate["surface"] is not None:
        rows = len(predicate["surface"]["rows"])
        found.append(f"the loss was sampled around {'one image' if rows == 1 else f'{rows} images'}")
    if not found:
        return not_tested("Neither smallest changes nor the loss around images were measured.", "surface")
    text = "; ".join(found)
    return Answer("measured", f"{text[0].upper()}{text[1:]}. Nothing is proved by it.", ("minimumDistances", "surface"))


def domain(predicate: Predicate) -> Answer:
    """Around which inputs, in which ball, on which grid."""
    shape = " × ".join(map(str, predicate["data"]["shape"]))
    balls = listing([threat_title(item) for item in predicate["threats"]])
    text = (
        f"Images of {shape} values of 8 bits, within {balls} of {predicate['sample']['size']} test images. Nothing is "
        "said about inputs away from these images."
    )
    return Answer("recorded", text, ("data", "sample", "threats"))
