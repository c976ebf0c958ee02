"""A published model attacked again: the same images, other settings, a second bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.assembly import assemble
from bundle.bundle import open_bundle
from bundle.digests import whole_folder
from bundle.errors import HallmarkError
from bundle.pages.headline import headline_threat, main_threats
from bundle.served.replay import self_check
from bundle.served.runtime import OnnxClassifier
from bundle.table.threats import Threat
from pipeline.attest import measured
from pipeline.evaluation.columns import served_columns
from pipeline.evaluation.evidence import Evidence, gather_evidence
from pipeline.evaluation.from_bundle import RebuiltModel, check_companion, check_twin
from pipeline.evaluation.running import progress_line, worker_count
from pipeline.evaluation.victim import Victim
from pipeline.params import AttackSettings, validated
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.devices import choose_device
from pipeline.run.environment import describe_environment, installed_packages, source_digest
from pipeline.stage import exclusive

RADII = {"linf": "eps_255", "l2": "eps_l2", "l1": "eps_l1"}


def changed_settings(predicate: Mapping[str, Any], options: Mapping[str, Any]) -> AttackSettings:
    """The settings that the bundle was attacked with, changed by the options that are not None.

    The seed is one above the bundle's where none is given. Where radii are given, no others are attacked.
    Raises HallmarkError for a value that cannot be.
    """
    recorded = predicate["parameters"].get("attack", {})
    chosen = {key: value for key, value in options.items() if value is not None}
    radii = {key: chosen[key] for key in RADII.values() if key in chosen} or _attacked_radii(predicate)
    last = max(recorded.get("seed", 0), *(item["seed"] for item in predicate["merged"] or []), 0)
    document = {**recorded, "tier": predicate["tier"], "seed": last + 1, **chosen}
    return validated(AttackSettings, {**document, **dict.fromkeys(RADII.values()), **radii}, "attack")


def _attacked_radii(predicate: Mapping[str, Any]) -> dict[str, list[float]]:
    """The radii by norm of the bundle's main threats."""
    radii: dict[str, list[float]] = {}
    for threat in main_threats(predicate):
        radii.setdefault(RADII[threat["norm"]], []).append(Threat.of(threat).size)
    return radii


def attack_again(
    published: RebuiltModel,
    companions: list[RebuiltModel],
    settings: AttackSettings,
    out: Path,
    *,
    device: str,
    threads: int,
) -> Mapping[str, Any]:
    """Attacks the model of a bundle again and writes the second bundle to `out`, whole or not at all; returns its predicate.

    Finished parts are cached below checkpoints/, so that the same call goes on after a kill. Raises HallmarkError where
    `out` is there already, or the network is not the ONNX file's twin.
    """
    _require_room(out)
    bundle = published.bundle
    for companion in companions:
        check_companion(companion, published)
    classifier = OnnxClassifier(bundle.model, threads=threads, device="cpu")
    twin = check_twin(published, classifier)
    print(
        f"model {bundle.version}: the network is the file's twin, logits differ by at most {twin.difference:.1e} on "
        f"{twin.images} images of the evidence",
        flush=True,
    )
    place = choose_device(device)
    environment = describe_environment(place, threads)
    sources = {companion.bundle.version: companion.attestation for companion in companions}
    identity = {
        "attestation": published.attestation,
        "settings": settings.model_dump(),
        "transfer_from": sources,
        "environment": environment,
        "source": source_digest(),
    }
    folder = cache_folder(identity)
    with exclusive(folder.with_suffix(".lock")):
        victim = Victim(
            published.network,
            len(bundle.class_names),
            {companion.bundle.version: companion.network for companion in companions},
            bundle.model,
        )
        cache = Cache(folder)
        processes = worker_count(place, settings.tier, threads)
        evidence = gather_evidence(
            victim,
            published.drawn(),
            settings,
            device=place,
            say=progress_line(),
            wanted=Threat.of(headline_threat(bundle.predicate)),
            cache=cache,
            processes=processes,
        )
        environment |= {"installed": installed_packages(), "judged_by": classifier.provider}
        predicate = write_again(published, evidence, classifier, out, environment=environment, transfer_from=sources)
        cache.remove()
    folder.with_suffix(".lock").unlink(missing_ok=True)
    return predicate


def write_again(
    published: RebuiltModel,
    evidence: Evidence,
    classifier: OnnxClassifier,
    out: Path,
    *,
    environment: Mapping[str, Any],
    transfer_from: Mapping[str, str],
) -> Mapping[str, Any]:
    """Writes the second bundle, verified before it takes its name; returns its predicate."""

    bundle, predicate = published.bundle, published.bundle.predicate
    # What nobody attacked is the bundle's own, the clean verdicts and the counts of noisy votes: merging asks for that.
    carried = {name: values for name, values in bundle.outcomes.columns.items() if _unattacked(name, predicate)}
    served = served_columns(classifier, evidence.images, bundle.outcomes["label"])
    origin = {"attestation": published.attestation, "transfer_from": dict(transfer_from)}
    parameters = {**predicate["parameters"], "reattack": origin}
    same = (
        "schema",
        "assuranceLevel",
        "model",
        "network",
        "method",
        "data",
        "selection",
        "testReads",
        "smoothing",
        "proofs",
    )
    again = {
        **{key: predicate[key] for key in (*same, "parity", "selfCheck")},
        "environment": dict(environment),
        **measured(
            evidence.description,
            parameters,
            predicate["smoothing"],
            predicate["selection"],
            predicate["data"],
            evidence.outcomes,
        ),
    }
    outcomes = evidence.outcomes.with_columns({**served, **carried})
    self_check(classifier, outcomes, evidence.images, again).require()
    with whole_folder(out) as unnamed:
        assemble(
            unnamed,
            model=bundle.model,
            weights=published.weights,
            outcomes=outcomes,
            images=evidence.images,
            predicate=again,
        )
        statement = open_bundle(unnamed).statement
    return statement["predicate"]


def _unattacked(column: str, predicate: Mapping[str, Any]) -> bool:
    first, _, rest = column.partition("/")
    return rest.startswith("clean/") or first in {"proved", *(item["name"] for item in predicate["smoothing"])}


def _require_room(out: Path) -> None:
    """Refuses what would fail after the attack."""
    if out.exists():
        raise HallmarkError(f"{out}: is there already; take it away, or give another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise HallmarkError(f"{out.parent}: nothing can be written there; give another --out")
