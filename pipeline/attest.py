"""Stage attest: replays the evidence through the exported file, computes the claims, writes the bundle."""

from __future__ import annotations

import numpy as np

from bundle.assembly import assemble
from bundle.claims import ALL_ATTACKS
from bundle.digests import canonical_json, write_whole
from bundle.layout import IMAGES, OUTCOMES, WEIGHTS
from bundle.outcomes import load_outcomes
from bundle.replay import self_check
from bundle.runtime import OnnxClassifier
from pipeline.evaluation.evidence import served_columns
from pipeline.evaluation.predicate import build_predicate
from pipeline.folders import OUT, Folders
from pipeline.params import Params
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes the bundle, metrics.json and plots/robust_accuracy.csv."""
    model = folders.model.read_bytes()
    classifier = OnnxClassifier(model, threads=params.threads, device="cpu")
    with np.load(folders.evidence / IMAGES, allow_pickle=False) as archive:
        images = {name: archive[name] for name in archive.files}
    outcomes = load_outcomes(folders.evidence / OUTCOMES)
    outcomes = outcomes.with_columns(served_columns(classifier, images, outcomes["label"]))
    outcomes = outcomes.with_columns(load_outcomes(folders.certified / OUTCOMES).columns)
    predicate = build_predicate(folders, classifier)
    self_check(classifier, outcomes, images, predicate).require()
    statement = assemble(
        folders.bundle,
        model=model,
        weights=(folders.trained / WEIGHTS).read_bytes(),
        outcomes=outcomes,
        images=images,
        predicate=predicate,
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


if __name__ == "__main__":
    stage("attest", main)
