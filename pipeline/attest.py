"""Stage attest: collects the predicate, replays the evidence through the exported file, computes the claims, writes the bundle.

The predicate is collected from what the stages left beside their outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.assembly import assemble
from bundle.attestation import check_field
from bundle.checks import EvidenceError, check_images, read_images
from bundle.digests import canonical_json, sha256_file, write_whole
from bundle.errors import HallmarkError
from bundle.layout import IMAGES, NETWORK, OUTCOMES, WEIGHTS
from bundle.pages.metrics import metrics
from bundle.private import image_sets
from bundle.served.replay import SELF_CHECK_ROWS, self_check
from bundle.served.runtime import OnnxClassifier
from bundle.table.outcomes import IMAGE_COLUMNS, Outcomes, load_outcomes
from bundle.table.plan import untested_balls
from pipeline.evaluation.columns import served_columns
from pipeline.evaluation.ledger import RULE, count_test_reads, history_seen
from pipeline.evaluation.sanity.answers import answer_checks, data_checks
from pipeline.evaluation.victim import require_fit
from pipeline.networks.serialisation import load_network
from pipeline.params import Params
from pipeline.run.curve import training_curve
from pipeline.run.environment import installed_packages, source_digest
from pipeline.run.records import (
    OUT,
    AttackRecord,
    CertifyRecord,
    ExportRecord,
    Folders,
    Manifest,
    TrainingRecord,
    load_record,
    read_input,
)
from pipeline.run.views import plot_files
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes the bundle, metrics.json and the data of the plots."""
    load_network(folders.trained)  # what is published must be a network that can be attacked again
    model, weights = read_input(folders.model, "export"), read_input(folders.trained / WEIGHTS, "train")
    classifier = OnnxClassifier(model, threads=params.cpu_threads, device="cpu")
    predicate = build_predicate(folders, classifier)
    images, outcomes = _evidence(folders, predicate)
    outcomes = outcomes.with_columns(served_columns(classifier, images, outcomes["label"]))
    self_check(classifier, outcomes, images, predicate).require()
    statement = assemble(
        folders.bundle, model=model, weights=weights, outcomes=outcomes, images=images, predicate=predicate
    )
    write_whole(folders.root / "metrics.json", canonical_json(metrics(statement)))
    for name, content in plot_files(statement["predicate"]).items():
        write_whole(folders.root / "plots" / name, content)
    print(
        f"bundle of model {statement['predicate']['model']['version']} in {folders.bundle}, "
        f"report: {folders.bundle}/report.html"
    )


def _evidence(folders: Folders, predicate: Mapping[str, Any]) -> tuple[dict[str, NDArray[np.uint8]], Outcomes]:
    """Images and outcomes of both stages; raises HallmarkError where their files do not belong together."""
    attacked = load_outcomes(folders.evidence / OUTCOMES, IMAGE_COLUMNS)
    certified = load_outcomes(folders.certified / OUTCOMES)
    for name in ("index", "label"):
        if not np.array_equal(attacked[name], certified[name]):
            raise HallmarkError(
                f"{folders.certified / OUTCOMES}: is about other images than {folders.evidence / OUTCOMES}; make it again "
                "(`dvc repro --force certify`)"
            )
    shape = (len(attacked), *predicate["data"]["shape"])
    try:
        images = read_images(read_input(folders.evidence / IMAGES, "attack"), shape, image_sets(predicate))
        check_images(attacked, images, predicate)
    except EvidenceError as error:
        raise HallmarkError(f"{folders.evidence}: {error}; make it again (`dvc repro --force attack`)") from None
    return images, attacked.with_columns(certified.columns)


#: Fields of the predicate that are the record's of the stage attack.
MEASURED = (
    "tier",
    "sample",
    "threats",
    "mainThreats",
    "unions",
    "attacks",
    "corruptions",
    "distances",
    "surface",
)


def build_predicate(folders: Folders, classifier: OnnxClassifier) -> dict[str, Any]:
    """Everything that the schema asks for but what assemble() computes: claims, bounds and files.

    The settings are those that the stages recorded when they ran, not those that params.yaml names now.
    Raises HallmarkError where a stage has not left its file, or the parts are of different runs.
    """
    manifest = load_record(folders.data / "manifest.json", Manifest)
    training = load_record(folders.trained / "training.json", TrainingRecord)
    evidence = load_record(folders.evidence / "attacks.json", AttackRecord)
    smoothing = load_record(folders.certified / "smoothing.json", CertifyRecord)
    export = load_record(folders.parity, ExportRecord)
    outcomes, data = load_outcomes(folders.evidence / OUTCOMES, IMAGE_COLUMNS), _data(manifest)
    _check_fields(folders.data / "manifest.json", {"data": data})
    _check_fields(folders.trained / "training.json", {"selection": training["selection"]})
    _check_fields(folders.evidence / "attacks.json", {field: evidence[field] for field in (*MEASURED, "sanity")})
    _check_fields(folders.certified / "smoothing.json", {field: smoothing[field] for field in ("smoothing", "proofs")})
    _check_fields(folders.parity, {"parity": export["parity"]})
    require_fit(folders, classifier, manifest)
    selection = _selection(folders, training)
    parameters = {**training["settings"], "data": manifest["settings"], "export": export["settings"]}
    if smoothing["settings"] is not None:
        parameters["certify"] = smoothing["settings"]
    return {
        "schema": "1",
        "assuranceLevel": "self_attested",
        "model": {
            "parameters": training["parameters"],
            "format": "ONNX, uint8 NHWC to logits",
        },
        "network": json.loads(read_input(folders.trained / NETWORK, "train")),
        "method": {**training["method"], "settings": _without_name(training["settings"].get("method", {}))},
        "data": data,
        "selection": selection,
        "testReads": {
            "models": count_test_reads(sha256_file(folders.trained / WEIGHTS), manifest["splits"]["test"]["sha256"]),
            "rule": RULE,
            "complete": history_seen(),
        },
        "smoothing": smoothing["smoothing"],
        "proofs": smoothing["proofs"],
        "parity": export["parity"],
        # On the machine that made the bundle none moves; another CPU may turn a verdict that hangs by rounding.
        "selfCheck": {"rows": SELF_CHECK_ROWS, "allowedMoved": 1},
        "environment": {
            **training["environment"],
            "installed": installed_packages(),
            "judged_by": classifier.provider,
        },
        **measured(evidence, parameters, smoothing["smoothing"], training["selection"], data, outcomes),
    }


def measured(
    evidence: Mapping[str, Any],
    parameters: Mapping[str, Any],
    smoothing: Sequence[Mapping[str, Any]],
    selection: Mapping[str, Any],
    data: Mapping[str, Any],
    outcomes: Outcomes,
) -> dict[str, Any]:
    """The predicate's fields that an attack on a model decides, by this code.

    `evidence` is the description of what was run, `outcomes` its table; `parameters`, `smoothing`, `selection` and
    `data` are the predicate's, the first without the section of the attack.
    """
    answers = answer_checks(outcomes["label"], outcomes["reference/clean/prediction"], data["classes"])
    return {
        **{field: evidence[field] for field in MEASURED},
        "sanity": [*data_checks(data), *answers, *evidence["sanity"]],
        "parameters": {**parameters, "attack": evidence["settings"]},
        "merged": None,
        "source": {"sha256": source_digest()},
        "notTested": not_tested(evidence, parameters, smoothing, selection),
    }


def not_tested(
    evidence: Mapping[str, Any],
    parameters: Mapping[str, Any],
    smoothing: Sequence[Mapping[str, Any]],
    selection: Mapping[str, Any],
) -> list[str]:
    """What nobody may read into the numbers: it follows from what was run."""
    attacks = {attack["name"] for attack in evidence["attacks"]}
    guide = (parameters.get("network") or {}).get("guide")
    transferred = any(name.startswith("transfer-") for name in attacks)
    absent = {
        "AutoAttack": "autoattack" not in attacks,
        untested_balls({threat["norm"] for threat in evidence["threats"]}): True,
        "rotation, translation and other spatial changes": True,
        "common corruptions: blur, noise, weather, compression": evidence["corruptions"] is None,
        "attacks through queries alone on the served file": "square-onnx" not in attacks,
        "adversarial images carried over from other models": not transferred,
        "adaptive attacks that use the guide network": bool(guide) and "adaptive" not in attacks,
        "certified radii: nothing was proved": not smoothing,
        "poisoned training data and backdoors": True,
        "confidentiality: membership inference, reconstruction of training images, extraction of the model": True,
        "images from another distribution than the test split": True,
        "whether test images were among those that the model was trained or chosen on": selection["split"] == "unknown",
    }
    return [sentence for sentence, untested in absent.items() if untested]


def _selection(folders: Folders, training: Mapping[str, Any]) -> dict[str, Any]:
    """How the weights were chosen, with the curve of the training; a model from elsewhere brings none."""
    known = training["selection"]["split"] != "unknown"
    return {**training["selection"], **({"curve": training_curve(folders.trained)} if known else {})}


def _data(manifest: dict[str, Any]) -> dict[str, Any]:
    taken = ("name", "classes", "source", "licence", "preprocessing", "leakage")
    return {
        **{key: manifest[key] for key in taken},
        "shape": manifest["image_shape"],
        "splits": manifest["splits"],
        **{key: manifest[key] for key in ("title", "decoding", "notRead", "resize", "extra") if key in manifest},
    }


def _check_fields(path: Path, fields: Mapping[str, Any]) -> None:
    """Raises HallmarkError, with the file's name, where a record holds what no attestation may say."""
    for name, value in fields.items():
        check_field(name, value, str(path))


def _without_name(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}


if __name__ == "__main__":
    stage("attest", main)
