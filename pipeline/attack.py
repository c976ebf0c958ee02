"""Stage attack: the trained network under attack on the test split, the evidence written image by image."""

from __future__ import annotations

import io

import numpy as np

from bundle.digests import canonical_json, sha256_bytes, sha256_file, write_whole
from bundle.layout import IMAGES, OUTCOMES, WEIGHTS
from bundle.served.runtime import OnnxClassifier
from bundle.table.threats import Threat
from pipeline.data.manifest import load_described, load_manifest
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.ledger import record_test_read
from pipeline.evaluation.running import progress_line, worker_count
from pipeline.evaluation.victim import Victim, draw, require_fit
from pipeline.networks.serialisation import FILE as COMPANIONS
from pipeline.networks.serialisation import load_companions, load_network
from pipeline.params import Params
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.devices import choose_device
from pipeline.run.environment import describe_environment, source_digest
from pipeline.run.records import OUT, Folders, read_input
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes outcomes.parquet (reference columns), images.npz, attacks.json and metrics.json.

    Finished parts are cached in checkpoints/ until the stage ends, so that the same command goes on after a kill.
    """
    manifest = load_manifest(folders.data / "manifest.json")
    test = load_described(folders.data / "test.npz", manifest)
    model, trained, device = read_input(folders.model, "export"), folders.trained, choose_device(params.device)
    require_fit(folders, OnnxClassifier(model, threads=1, device="cpu"), manifest)  # said before hours of attack
    victim = Victim(load_network(trained), len(manifest["classes"]), load_companions(trained), model)
    record_test_read(sha256_file(trained / WEIGHTS), manifest["splits"]["test"]["sha256"])
    identity = {
        "settings": {**params.attack.model_dump(), "threat": params.threat.model_dump()},
        "test": manifest["splits"]["test"]["sha256"],
        "model": sha256_bytes(model),
        "networks": {name: sha256_file(trained / name) for name in (WEIGHTS, COMPANIONS) if (trained / name).exists()},
        "environment": describe_environment(device, params.cpu_threads),
        "source": source_digest(),
    }
    cache = Cache(cache_folder(identity))
    drawn = draw(test, params.attack)
    evidence = gather_evidence(
        victim,
        drawn,
        params.attack,
        device=device,
        say=progress_line(),
        wanted=Threat.of(params.threat.model_dump()),
        cache=cache,
        processes=worker_count(device, params.attack.tier, params.cpu_threads),
    )
    outcomes = evidence.outcomes
    metrics = {"clean": float(outcomes.clean_right("reference").mean())}
    for attack in evidence.description["attacks"]:
        accuracy = float(outcomes.robust("reference", attack["threat"], [attack["name"]]).mean())
        metrics[f"{attack['threat']}/{attack['name']}"] = accuracy
        print(f"{attack['threat']} {attack['name']}: {accuracy:.1%} of {len(outcomes)} right (reference)")
    buffer = io.BytesIO()
    np.savez(buffer, **evidence.images)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    write_whole(folders.evidence / IMAGES, buffer.getvalue())
    write_whole(folders.evidence / "attacks.json", canonical_json(evidence.description))
    write_whole(folders.evidence / "metrics.json", canonical_json(metrics))
    outcomes.save(folders.evidence / OUTCOMES)
    cache.remove()


if __name__ == "__main__":
    stage("attack", main)
