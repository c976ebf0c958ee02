"""Which numbers a reader meets first, and what must be said before them: on pages, in lists, in a gate.

The attestation names its main threats in `mainThreats`, the headline's first; every other threat is a point of the curve
of accuracy against its radius. Attestations from before that field are read by what was attacked and trained for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.attestation import model_digest, model_version
from bundle.errors import HallmarkError
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.numbers.proofs import SERVED
from bundle.pages.wording import attack_title, number, threat_name_title, threat_title
from bundle.table.outcomes import SETTINGS
from bundle.table.plan import TablePlanError, curve_only
from bundle.table.threats import RADIUS_FIELD, Threat, answering

#: The attacks that decide, in any version and with any seed; a method's own training attack tends to flatter it.
JUDGES = ("autoattack", "margin")


def is_judge(attack: str) -> bool:
    """Whether an attack is one of those that decide: `margin`, `autoattack`, `autoattack-plus`, `autoattack-seed-1`."""
    return any(attack == judge or attack.startswith(f"{judge}-") for judge in JUDGES)


def by_autoattack(predicate: Mapping[str, Any], threat: str) -> bool:
    """Whether AutoAttack, in any version, was run for a threat."""
    return any(name.split("-")[0] == "autoattack" for name in attack_names(predicate, threat))


def headline_threat(predicate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The main threat under which "the" robust accuracy of the model is stated."""
    if named := predicate.get("mainThreats"):
        return next(item for item in predicate["threats"] if item["name"] == named[0])
    return _answer_before(predicate)


def _answer_before(predicate: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same where no field names it: the main threat that answers for the one that the model was trained for.

    A model from elsewhere names none; its first main threat is the one around which the curve was drawn.
    """
    main = {Threat.of(item): item for item in main_threats(predicate)}
    return main[answering(list(main), _trained_for(predicate))]


def _trained_for(predicate: Mapping[str, Any]) -> Threat | None:
    trained = predicate["parameters"].get("threat", {})
    norm = trained.get("norm", "linf")
    size = trained.get(RADIUS_FIELD[norm])
    return None if size is None else Threat(norm, float(size))


def attack_names(predicate: Mapping[str, Any], threat: str) -> list[str]:
    """The attacks that were run for a threat (`linf-8`), in the order of the attestation."""
    return [attack["name"] for attack in predicate["attacks"] if attack["threat"] == threat]


def main_threats(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The threats under which the model's robust accuracy is stated, in the order of the attestation.

    Where no field names them: all but those with the margin attack alone, of a norm that has one with more attacks.
    """
    named, curve = predicate.get("mainThreats"), curve_only(predicate)
    return [item for item in predicate["threats"] if (item["name"] in named if named else item["name"] not in curve)]


def main_names(predicate: Mapping[str, Any]) -> list[str]:
    """The names of the main threats, the headline's first."""
    first = headline_threat(predicate)["name"]
    return [first, *(item["name"] for item in main_threats(predicate) if item["name"] != first)]


def sweep_threats(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The other threats: points of the curve of accuracy against the radius."""
    main = main_threats(predicate)
    return [item for item in predicate["threats"] if item not in main]


def worst_class(predicate: Mapping[str, Any], setting: str, threat: str) -> Mapping[str, Any]:
    """The class with the lowest accuracy under all attacks of a threat."""
    return _entry(predicate["worstClass"], setting, threat)


def calibration(predicate: Mapping[str, Any], setting: str, threat: str | None = None) -> Mapping[str, Any]:
    """The calibration error under a threat's attacks, or on clean images."""
    return _entry(predicate["calibration"], setting, threat)


def _entry(entries: Sequence[Mapping[str, Any]], setting: str, threat: str | None) -> Mapping[str, Any]:
    return next(item for item in entries if (item["setting"], item.get("threat")) == (setting, threat))


def corruption_mean(predicate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The mean accuracy over all corruptions and severities; None where none was tried."""
    return next((item for item in predicate["corruptionAccuracy"] if item["corruption"] == "all"), None)


def clean_claim(predicate: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """The claim on images that nobody changed."""
    claim = find_claim(predicate, "clean_accuracy", setting=setting)
    assert claim is not None  # claims() makes one for each setting
    return claim


def robust_claim(predicate: Mapping[str, Any], setting: str, threat: str, attack: str = ALL_ATTACKS) -> dict[str, Any]:
    """The claim under one attack, or under all of them."""
    claim = find_claim(predicate, "robust_accuracy", setting=setting, threat=threat, attack=attack)
    assert claim is not None  # claims() makes one for each attack of the predicate
    return claim


def check_claimed(predicate: Mapping[str, Any]) -> None:
    """Raises TablePlanError where an attestation names threats and leaves out what is claimed under them.

    A whole bundle's claims are recomputed; of an attestation alone this is what a reader relies on.
    """
    for setting in SETTINGS:
        keys: dict[str, Any] = {"setting": setting}
        if find_claim(predicate, "clean_accuracy", **keys) is None:
            raise TablePlanError(f"has no clean accuracy in the setting {setting}")
        for item in [*predicate["threats"], *predicate["unions"]]:
            if find_claim(predicate, "robust_accuracy", **keys, threat=item["name"], attack=ALL_ATTACKS) is None:
                raise TablePlanError(
                    f"has no robust accuracy under all attacks of {item['name']} in the setting {setting}"
                )
        for threat in (None, *(item["name"] for item in predicate["threats"])):
            listed = ["calibration", *(["worstClass"] if threat else [])]
            for kind in listed:
                if not any((item["setting"], item.get("threat")) == (setting, threat) for item in predicate[kind]):
                    raise TablePlanError(
                        f"{kind}: has no entry for {threat or 'clean images'} in the setting {setting}"
                    )


def headline_proof(predicate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What was proved about the served classifier at the largest radius that half of the images withstand.

    Where no radius is withstood by half, at the smallest one; None where nothing was asked for.
    """
    proofs = sorted((bound for bound in predicate["bounds"] if bound["classifier"] == SERVED), key=_radius)
    most = [bound for bound in proofs if bound["value"] >= 0.5]
    return (most or proofs[:1] or [None])[-1]


def _radius(bound: Mapping[str, Any]) -> float:
    return bound["eps_255"]


def headline_bound(predicate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first smoothed classifier's certified accuracy at the middle of its radii; None where there is none."""
    for smoothing in predicate["smoothing"]:
        if radii := sorted(smoothing["radii"]):
            middle = radii[len(radii) // 2]
            return find_claim(predicate, "certified_accuracy", classifier=smoothing["name"], radius=middle)
    return None


def warnings(predicate: Mapping[str, Any]) -> list[str]:
    """What a reader must know before a number is believed, the worst first; empty where nothing is amiss."""
    return [*_checks(predicate), *_attack_warnings(predicate), *_parity_warnings(predicate["parity"])]


def _checks(predicate: Mapping[str, Any]) -> list[str]:
    if not predicate["sanity"]:
        return ["No sanity check was run, so nothing shows that the attacks worked."]
    return [
        _check(predicate, item, said)
        for outcome, said in (("fail", "failed"), ("warn", "gives a warning"))
        for item in predicate["sanity"]
        if item["outcome"] == outcome
    ]


def _check(predicate: Mapping[str, Any], item: Mapping[str, Any], said: str) -> str:
    at = f" at {threat_name_title(predicate, item['threat'])}" if "threat" in item else ""
    return (
        f"Sanity check {item['check']}{at} {said}: {item['meaning']}: measured {number(item['statistic'])}, "
        f"it fails {'above' if item['comparator'] == '<=' else 'below'} {number(item['threshold'])}."
    )


def _attack_warnings(predicate: Mapping[str, Any]) -> list[str]:
    found = [
        f"{attack_title(attack['name'])} at {threat_name_title(predicate, attack['threat'])} raised a flag: {flag}"
        for attack in predicate["attacks"]
        for flag in attack["flags"]
    ]
    for threat in predicate["threats"]:
        if not any(map(is_judge, attack_names(predicate, threat["name"]))):
            found.append(f"Neither AutoAttack nor the margin attack was run at {threat_title(threat)}.")
    return found


def _parity_warnings(parity: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    if parity["disagreements"]:
        found.append(
            f"The exported file and the trained network answer differently on {parity['disagreements']} "
            f"of {parity['images']} images."
        )
    if parity["largestLogitDifference"] > parity["tolerance"]:
        found.append(
            f"Logits of the exported file differ by up to {number(parity['largestLogitDifference'])} from the trained "
            f"network's; {number(parity['tolerance'])} is tolerated."
        )
    return found


SHARE_FIELDS = ("value", "correct", "sampleSize", "interval")
#: Characters of a name in BentoML's stores.
LONGEST_NAME = 63


class FolderError(HallmarkError):
    """A folder of versions is there and cannot be looked at, so that nobody can tell what it holds."""


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder of versions, by name, hidden ones left out; [] where there is nothing of its name.

    A link to nothing is one too: a version is missing there. Raises FolderError where `path` cannot be read.
    """
    try:
        found = [item for item in path.iterdir() if not item.name.startswith(".")]
        return sorted(item for item in found if item.is_dir() or (item.is_symlink() and not item.exists()))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return []
        raise FolderError(f"{path}: cannot be read as a folder of versions ({error.strerror})") from None


def headline(statement: Mapping[str, Any]) -> dict[str, Any]:
    """The headline numbers of a statement that met the schema.

    Returns
    -------
    `version`, `digest` (of model.onnx), `data`, `method` (its title), `n` (images), `tier`;
    `reliable`: false where a sanity check failed, so that the truth may be much worse;
    `clean`: by setting; `robust`: `threat`, `eps_255` (for l2 and l1 `eps`), and by setting the accuracy under every
    attack of the headline's threat; `certified`: `classifier`, `radius` and accuracy of the headline's bound, or None;
    `flags`: warnings of attacks and sanity checks that failed, each with where it comes from.
    An accuracy is a dict with `value`, `correct`, `sampleSize` and `interval`; None where the statement does not claim it.
    """
    predicate = statement["predicate"]
    digest, threat = model_digest(statement), headline_threat(predicate)
    keys = {"threat": threat["name"], "attack": ALL_ATTACKS}
    return {
        "version": model_version(digest),
        "digest": digest,
        "data": predicate["data"]["name"],
        "method": predicate["method"]["title"],
        "n": predicate["sample"]["size"],
        "tier": predicate["tier"],
        "reliable": predicate["reliable"],
        "clean": {name: _share(find_claim(predicate, "clean_accuracy", setting=name)) for name in SETTINGS},
        "robust": {"threat": threat["name"], RADIUS_FIELD[threat["norm"]]: threat[RADIUS_FIELD[threat["norm"]]]}
        | {name: _share(find_claim(predicate, "robust_accuracy", setting=name, **keys)) for name in SETTINGS},
        "certified": _certified(predicate),
        "flags": _flags(predicate),
    }


def store_name(predicate: Mapping[str, Any]) -> str:
    """The name that a bundle has in BentoML's stores: `hallmark-<data>-<method>`, in the characters that they admit."""
    name = f"hallmark-{predicate['data']['name']}-{predicate['method']['name']}".lower()
    return re.sub("[^a-z0-9._-]+", "-", name)[:LONGEST_NAME].strip("._-")


def _share(claim: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if claim is None else {field: claim[field] for field in SHARE_FIELDS if field in claim}


def _certified(predicate: Mapping[str, Any]) -> dict[str, Any] | None:
    bound = headline_bound(predicate)
    return bound and {field: bound[field] for field in ("classifier", "radius", *SHARE_FIELDS)}


def _flags(predicate: Mapping[str, Any]) -> list[str]:
    attacks = [f"{item['threat']}/{item['name']}: {flag}" for item in predicate["attacks"] for flag in item["flags"]]
    sanity = [f"sanity: {item['check']} failed" for item in predicate["sanity"] if not item["passed"]]
    return attacks + sanity
