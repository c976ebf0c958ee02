"""Stage attack: the trained network under attack on the test split, the evidence kept image by image."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from bundle.digests import canonical_json, sha256_file, write_whole
from bundle.layout import IMAGES, OUTCOMES, WEIGHTS
from pipeline.data.split import load_split
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.ledger import record_test_read
from pipeline.evaluation.suite import speaker
from pipeline.params import Params
from pipeline.serialisation import load_network
from pipeline.stage import stage
from pipeline.training.devices import choose_device

DATA, TRAINED, OUT = Path("out/data"), Path("out/train"), Path("out/evidence")


def main(params: Params) -> None:
    """Writes outcomes.parquet (reference columns), images.npz, attacks.json and metrics.json."""
    manifest = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
    network = load_network(TRAINED)
    record_test_read(sha256_file(TRAINED / WEIGHTS), manifest["splits"]["test"]["sha256"])
    evidence = gather_evidence(
        network,
        load_split(DATA / "test.npz"),
        params.attack,
        device=choose_device(params.device),
        classes=len(manifest["classes"]),
        say=speaker(),
    )
    outcomes, attacks = evidence.outcomes, evidence.description["attacks"]
    metrics = {"clean": float(outcomes.clean_right("reference").mean())}
    for attack in attacks:
        share = float(outcomes.robust("reference", attack["threat"], [attack["name"]]).mean())
        metrics[f"{attack['threat']}/{attack['name']}"] = share
        print(f"{attack['threat']} {attack['name']}: {share:.1%} of {len(outcomes)} right (reference)")
    buffer = io.BytesIO()
    np.savez(buffer, **evidence.images)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    write_whole(OUT / IMAGES, buffer.getvalue())
    write_whole(OUT / "attacks.json", canonical_json(evidence.description))
    write_whole(OUT / "metrics.json", canonical_json(metrics))
    outcomes.save(OUT / OUTCOMES)


if __name__ == "__main__":
    stage("attack", main)
