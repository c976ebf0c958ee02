"""Stage attest: replays the evidence through the exported file, computes the claims, writes the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.assembly import assemble
from bundle.checks import EvidenceError, check_images, read_images
from bundle.digests import canonical_json, write_whole
from bundle.errors import HallmarkError
from bundle.layout import IMAGES, OUTCOMES, WEIGHTS
from bundle.numbers.claims import ALL_ATTACKS
from bundle.private import image_sets
from bundle.served.replay import self_check
from bundle.served.runtime import OnnxClassifier
from bundle.table.outcomes import IMAGE_COLUMNS, Outcomes, load_outcomes
from pipeline.evaluation.evidence import served_columns
from pipeline.evaluation.predicate import build_predicate
from pipeline.networks.serialisation import load_network
from pipeline.params import Params
from pipeline.run.folders import OUT, Folders
from pipeline.run.records import read_input
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes the bundle, metrics.json and plots/robust_accuracy.csv."""
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
    metrics: dict[str, float] = {}
    rows = ["attack,accuracy,lower,upper"]
    for claim in statement["predicate"]["claims"]:
        attack = "clean" if claim["metric"] == "clean_accuracy" else f"{claim['threat']}/{claim['attack']}"
        # One label a row: DVC's bar plot would stack the two settings of an attack on each other.
        rows.append("{} ({}),{:.6f},{:.6f},{:.6f}".format(attack, claim["setting"], claim["value"], *claim["interval"]))
        if claim.get("attack", ALL_ATTACKS) in (ALL_ATTACKS, "autoattack"):
            metrics[f"{claim['setting']}/{attack}"] = claim["value"]
    write_whole(folders.root / "metrics.json", canonical_json(metrics))
    write_whole(folders.root / "plots" / "robust_accuracy.csv", ("\n".join(rows) + "\n").encode())
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


if __name__ == "__main__":
    stage("attest", main)
