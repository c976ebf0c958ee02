"""Stage attest: replays the evidence through the exported file, computes the claims, writes the bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bundle.assembly import assemble
from bundle.claims import ALL_ATTACKS
from bundle.digests import canonical_json, write_whole
from bundle.layout import IMAGES, OUTCOMES, WEIGHTS
from bundle.outcomes import load_outcomes
from bundle.runtime import OnnxClassifier
from pipeline.evaluation.evidence import served_columns
from pipeline.evaluation.predicate import Folders, build_predicate
from pipeline.params import Params
from pipeline.stage import stage

FOLDERS = Folders(Path("out"))


def main(params: Params) -> None:
    """Writes out/bundle, out/metrics.json and out/plots/robust_accuracy.csv."""
    model = FOLDERS.model.read_bytes()
    classifier = OnnxClassifier(model, threads=params.threads, device="cpu")
    with np.load(FOLDERS.evidence / IMAGES, allow_pickle=False) as archive:
        images = {name: archive[name] for name in archive.files}
    outcomes = load_outcomes(FOLDERS.evidence / OUTCOMES)
    outcomes = outcomes.with_columns(served_columns(classifier, images, outcomes["label"]))
    outcomes = outcomes.with_columns(load_outcomes(FOLDERS.certified / OUTCOMES).columns)
    statement = assemble(
        FOLDERS.bundle,
        model=model,
        weights=(FOLDERS.trained / WEIGHTS).read_bytes(),
        outcomes=outcomes,
        images=images,
        predicate=build_predicate(FOLDERS, classifier),
    )
    metrics: dict[str, float] = {}
    rows = ["attack,accuracy,lower,upper"]
    for claim in statement["predicate"]["claims"]:
        attack = "clean" if claim["metric"] == "clean_accuracy" else f"{claim['threat']}/{claim['attack']}"
        # One label a row: DVC's bar plot would stack the two settings of an attack on each other.
        rows.append("{} ({}),{:.6f},{:.6f},{:.6f}".format(attack, claim["setting"], claim["value"], *claim["interval"]))
        if claim.get("attack", ALL_ATTACKS) in (ALL_ATTACKS, "autoattack"):
            metrics[f"{claim['setting']}/{attack}"] = claim["value"]
    write_whole(FOLDERS.root / "metrics.json", canonical_json(metrics))
    write_whole(FOLDERS.root / "plots" / "robust_accuracy.csv", ("\n".join(rows) + "\n").encode())
    print(
        f"bundle of model {statement['predicate']['model']['version']} in {FOLDERS.bundle}, "
        f"report: {FOLDERS.bundle}/report.html"
    )


if __name__ == "__main__":
    stage("attest", main)
