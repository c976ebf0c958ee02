"""What people read on a terminal: one version in full, and the table of versions with the two settings in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.terminal import ABSENT, FAIL, PASS, console, percent_in_full, percent_short, plain_table
from audit.versions.find import Version, autoattack, served_bounds
from bundle.attestation import model_digest, model_version
from bundle.leakage import leakage_sentence
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.pages.headline import (
    calibration,
    corruption_mean,
    headline,
    headline_threat,
    main_threats,
    sweep_threats,
    worst_class,
)
from bundle.pages.wording import (
    additional_images,
    chosen_by,
    counted,
    environment,
    listing,
    number,
    percent,
    sample_scope,
    trained,
)
from bundle.process import plain
from bundle.table.outcomes import SETTINGS


def _when(version: Version) -> str:
    return f", {version.signed_at}" if version.signed_at else ""


def signature(version: Version) -> str:
    """The state of the signature in a few words."""
    if version.key_id is None:
        return version.signature
    unchecked = ", not checked" if version.signature == "unchecked" else ""
    return f"signed by {version.key_id[:12]}{_when(version)}{unchecked}"


def print_version(version: Version) -> None:
    """Everything that a person needs to judge one version."""
    assert version.statement is not None and version.attestation is not None
    predicate, digest, out = version.statement["predicate"], model_digest(version.statement), console()
    out.print(f"Version {model_version(digest)}")
    if not predicate["reliable"]:
        failed = ", ".join(item["check"] for item in predicate["sanity"] if item["outcome"] == "fail")
        out.print(f"UNRELIABLE: the truth may be much worse, since these checks failed: {plain(failed)}")
    out.print(_facts(_identity(version, predicate, digest)))
    out.print("\nMeasured: an upper bound of the true robust accuracy; the 95 % interval is for the drawing of images")
    if scope := sample_scope(predicate["sample"]):
        out.print(scope)
    out.print(_measured(predicate))
    out.print("\nBeyond the headline, served")
    out.print(_facts(_second_rank(predicate)))
    if proofs := served_bounds(predicate):
        out.print(
            "\nProved, about the served classifier: no image within the radius is answered otherwise, a lower bound"
        )
        out.print(_proved_served(proofs))
    for smoothing in predicate["smoothing"]:
        out.print(f"\nProved, about {plain(smoothing['name'])} alone: {plain(smoothing['statement'])}")
        out.print(_proved(predicate, smoothing["name"]))
    out.print("\nFlags")
    for flag in headline(version.statement)["flags"] or ["none"]:
        out.print(f"  {plain(flag)}", soft_wrap=True)
    out.print("\nSanity checks")
    out.print(_sanity(predicate))
    out.print("\nHow it came about")
    out.print(_facts(_origin(predicate)))
    out.print("\nNot tested")
    for item in predicate["notTested"]:
        out.print(f"  {plain(item)}", soft_wrap=True)


def _identity(version: Version, predicate: Mapping[str, Any], digest: str) -> dict[str, object]:
    method, data = predicate["method"], predicate["data"]
    return {
        "where": ", ".join(map(str, version.places)),
        "model.onnx": f"SHA-256 {digest}",
        "attestation": f"SHA-256 {version.attestation}",
        "signature": f"{version.signature}: {version.refusal}" if version.refusal else _signature_in_full(version),
        "method": trained(method),
        "network": json.dumps(predicate["network"], sort_keys=True),
        "parameters": f"{predicate['model']['parameters']:,}; {predicate['model']['format']}",
        "data": f"{data['name']}, {len(data['classes'])} classes; {data['source']}; {data['licence']}"
        + (f"; {additional_images(data)}" if "extra" in data else ""),
        "leaks": leakage_sentence(data.get("leakage", {})),
    }


def _signature_in_full(version: Version) -> str:
    if version.signature == "attestation only":
        return "attestation only: its files and claims could not be checked here"
    if version.key_id is None:
        return version.signature
    unchecked = ", not checked: no trusted key was given" if version.signature == "unchecked" else ""
    return f"signed by {version.key_id}{_when(version)}{unchecked}"


def _measured(predicate: Mapping[str, Any]) -> Table:
    table = plain_table("threat", "attack", "served", "reference", "flags")

    def row(title: str, label: str, flags: str, metric: str, **keys: Any) -> None:
        found = [find_claim(predicate, metric, setting=setting, **keys) for setting in reversed(SETTINGS)]
        table.add_row(plain(title), plain(label), *map(percent_in_full, found), plain(flags))

    row("none", "clean images", "", "clean_accuracy")
    curve = sweep_threats(predicate)
    for threat in [*main_threats(predicate), *curve]:
        named = f"{threat['name']} (eps {_radius(threat)})"
        for attack in predicate["attacks"]:
            if attack["threat"] == threat["name"]:
                keys = {"threat": threat["name"], "attack": attack["name"]}
                row(named, attack["name"], "; ".join(attack["flags"]), "robust_accuracy", **keys)
        if threat not in curve:
            row(named, "every attack", "", "robust_accuracy", threat=threat["name"], attack=ALL_ATTACKS)
    for union in predicate["unions"]:
        named = f"{union['name']} of {listing(union['threats'])}"
        row(named, "every attack", "", "robust_accuracy", threat=union["name"], attack=ALL_ATTACKS)
    return table


def _second_rank(predicate: Mapping[str, Any]) -> dict[str, object]:
    """The worst class and the calibration error at the headline's threat, corruptions, smallest changes."""
    threat = headline_threat(predicate)["name"]
    worst, mean = worst_class(predicate, "served", threat), corruption_mean(predicate)
    clean, attacked = (percent(calibration(predicate, "served", name)["value"]) for name in (None, threat))
    facts: dict[str, object] = {
        "worst class": f"{worst['class']} at {threat}: {percent_in_full(worst)}, for every class at once",
        "calibration error": f"{clean} clean, {attacked} under attack at {threat}",
        "corruptions": f"{percent(mean['value'])} right on average" if mean else "not tried",
    }
    for item in predicate["minimumDistances"]:
        median = "not found" if item["quantiles"]["50"] is None else number(item["quantiles"]["50"])
        found = f"{item['found']} of {item['sampleSize']}"
        facts[f"{item['name']} distance"] = f"median {item['norm']} {median}, found for {found} (reference)"
    return facts


def _radius(threat: Mapping[str, Any]) -> str:
    return f"{threat['eps_255']:g}/255" if threat["norm"] == "linf" else f"{threat['eps']:g}"


def _proved(predicate: Mapping[str, Any], classifier: str) -> Table:
    table = plain_table("l2 radius", "certified accuracy")
    for bound in predicate["bounds"]:
        if bound["classifier"] != classifier:
            continue
        if bound["metric"] == "average_certified_radius":
            table.add_row("average certified", f"{bound['value']:.3f}")
        else:
            table.add_row(f"{bound['radius']:g}" if "radius" in bound else ABSENT, percent_in_full(bound))
    return table


def _proved_served(bounds: Sequence[Mapping[str, Any]]) -> Table:
    table = plain_table("l∞ radius", "technique", "certified accuracy")
    for bound in bounds:
        table.add_row(f"{bound['eps_255']:g}/255", plain(bound["technique"]), percent_in_full(bound))
    return table


def _sanity(predicate: Mapping[str, Any]) -> Table:
    table = plain_table("check", "outcome", "statistic", "meaning")
    for item in predicate["sanity"]:
        statistic = f"{item['statistic']:g} {item['comparator']} {item['threshold']:g}"
        check = f"{item['check']} at {item['threat']}" if "threat" in item else item["check"]
        table.add_row(plain(check), _outcome(item["outcome"]), statistic, plain(item["meaning"]))
    return table


def _outcome(word: str) -> Text:
    """`pass`, `WARN` or `FAIL`, in colour."""
    return Text(word if word == "pass" else word.upper(), style={"pass": PASS, "fail": FAIL}.get(word, "yellow"))


def _origin(predicate: Mapping[str, Any]) -> dict[str, object]:
    selection, reads, sample, parity = (predicate[key] for key in ("selection", "testReads", "sample", "parity"))
    check = predicate["selfCheck"]
    return {
        "tier": predicate["tier"],
        **({"joined from": _joined(predicate["merged"])} if predicate["merged"] else {}),
        "selection": chosen_by(selection),
        "test reads": f"{counted(reads)}: {reads['rule']}",
        "sample": f"{sample['size']} of {sample['of']} test images, seed {sample['seed']}: {sample['rule']}",
        "parity": f"{parity['disagreements']} disagreements on {parity['images']} images; logits differ by at most "
        f"{parity['largestLogitDifference']:.2g} (tolerance {parity['tolerance']:g})",
        "self-check": f"{check['rows']} rows, {check['allowedMoved']} may move",
        "settings": json.dumps(predicate["parameters"], sort_keys=True),
        "environment": json.dumps(environment(predicate), sort_keys=True),
        "source": f"SHA-256 {predicate['source']['sha256']}",
        "assurance": predicate["assuranceLevel"],
    }


def _joined(sources: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"SHA-256 {item['attestation']} ({item['tier']}, seed {item['seed']})" for item in sources)


def _facts(facts: Mapping[str, object]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(f"  {name}", plain(value))
    return table


#: In the order of the two lines of a row.
SETTING_COLUMNS = ("served", "reference")
LEGEND = (
    "all attacks: right under every attack of the main threat, an upper bound; certified: a lower bound of the named "
    "classifier; 95 % intervals: of the drawing of images"
)


#: Columns that the wide table takes where a terminal has fewer.
WIDE = 200


def print_versions(versions: Sequence[Version]) -> None:
    """One row an attestation, both settings with intervals; what is refused follows, each with its sentence."""
    table = plain_table()
    for name in ("version", "where", "data", "method", "tier", "setting"):
        table.add_column(name, overflow="fold")
    for name in ("clean", "all attacks", "AutoAttack", "certified", "n"):
        table.add_column(name, justify="right")
    for name in ("flags", "signature"):
        table.add_column(name, overflow="fold")
    for version in versions:
        table.add_row(*_row(version))
    out = console(WIDE)
    out.print(table)
    print_refused(out, versions)
    if versions:
        out.print(LEGEND)


def print_refused(out: Console, versions: Sequence[Version]) -> None:
    """A sentence for each version that is refused, and how many they are."""
    refused = [version for version in versions if version.refusal]
    for version in refused:
        out.print(f"refused: {plain(version.places[0])}: {plain(version.refusal)}", soft_wrap=True)
    if refused:
        out.print(f"{len(refused)} of {len(versions)} rows could not be read or trusted")


def _row(version: Version) -> list[str | Text]:
    where = "\n".join(plain(place) for place in version.places)
    if version.statement is None:
        return [ABSENT, where, *[ABSENT] * 10, "refused"]
    top, predicate = headline(version.statement), version.statement["predicate"]
    attacked = autoattack(predicate)
    return [
        plain(top["version"]),
        where,
        plain(top["data"]),
        plain(top["method"]),
        top["tier"],
        "\n".join(SETTING_COLUMNS),
        _both(top["clean"]),
        f"{_both(top['robust'])}\nat {plain(top['robust']['threat'])}",
        _both(attacked) if attacked else ABSENT,
        _certified(top["certified"], predicate),
        str(top["n"]),
        _flags(top),
        plain(signature(version)),
    ]


def _both(accuracies: Mapping[str, Any]) -> str:
    return "\n".join(percent_short(accuracies[name]) for name in SETTING_COLUMNS)


def _certified(bound: Mapping[str, Any] | None, predicate: Mapping[str, Any]) -> str:
    lines: list[str] = []
    trained = headline_threat(predicate).get("eps_255")
    for proof in served_bounds(predicate):
        if proof["eps_255"] == trained:
            lines.append(f"{percent_short(proof)}\nserved, linf {trained:g}/255")
    if bound:
        lines.append(f"{percent_short(bound)}\n{plain(bound['classifier'])}, l2 {bound['radius']:g}")
    return "\n".join(lines) or ABSENT


def _flags(top: Mapping[str, Any]) -> str | Text:
    count = str(len(top["flags"])) if top["flags"] else "none"
    return count if top["reliable"] else Text(f"UNRELIABLE\n{count}", style=FAIL)
