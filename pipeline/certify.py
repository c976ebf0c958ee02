"""Stage certify: what is proved, about smoothed classifiers (l2) and about the served classifier itself (l-infinity)."""

from __future__ import annotations

from typing import Any

import torch

from bundle.digests import canonical_json, sha256_file, write_whole
from bundle.layout import OUTCOMES, WEIGHTS
from bundle.numbers.claims import smoothing_bounds
from bundle.table.outcomes import IMAGE_COLUMNS, Outcomes, image_digests, load_outcomes
from pipeline.certification.proved import attacked_radii, prove, with_technique
from pipeline.certification.smoothed import curve_csv, curve_metrics, curve_sentence, describe, smoothed_columns
from pipeline.data.split import DataError, Split, load_split
from pipeline.evaluation.running import progress_line
from pipeline.networks.serialisation import load_network
from pipeline.params import CertifySettings, Params
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.devices import choose_device
from pipeline.run.environment import describe_environment, source_digest
from pipeline.run.folders import OUT, Folders
from pipeline.run.records import AttackRecord, TrainingRecord, load_record
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes outcomes.parquet (a column a certificate), smoothing.json, curve.csv and metrics.json.

    Finished parts are kept in checkpoints/ until the stage ends, so that the same command goes on after a kill.
    """
    out, device = folders.certified, choose_device(params.device)
    evidence = load_record(folders.evidence / "attacks.json", AttackRecord)
    attacked = load_outcomes(folders.evidence / OUTCOMES, IMAGE_COLUMNS)
    index, test = attacked["index"], _attacked_images(folders, attacked)
    trained_with = _noise_of_training(folders)
    network = load_network(folders.trained)
    settings = with_technique(params.certify, test.images.shape[1:], evidence["tier"])
    cache = Cache(cache_folder(_identity(params, settings, folders, index.tolist(), device)))
    proofs, proved = prove(network, test, settings, attacked_radii(evidence), cache)
    columns = proved | smoothed_columns(network, test.images, index, settings, device, cache=cache, say=progress_line())
    outcomes = Outcomes({"index": index, "label": test.labels, **columns})
    described = describe(settings, trained_with)
    bounds = [smoothing_bounds(outcomes, item) for item in described]
    write_whole(
        out / "smoothing.json",
        canonical_json({"smoothing": described, "proofs": proofs, "settings": settings.model_dump()}),
    )
    write_whole(out / "curve.csv", curve_csv(bounds))
    write_whole(out / "metrics.json", canonical_json(curve_metrics(bounds)))
    outcomes.save(out / OUTCOMES)
    for *curve, average in bounds:
        print(f"smoothed classifier, sigma {average['sigma']:g} (not the served one): {curve_sentence(curve)}")
    cache.remove()


def _attacked_images(folders: Folders, attacked: Outcomes) -> Split:
    """The images of the evidence, in its order; raises DataError where the test split is another."""
    path, index = folders.data / "test.npz", attacked["index"]
    test = load_split(path)
    if index.min() >= 0 and index.max() < len(test):
        drawn = test.take(index)
        if image_digests(drawn.images) == attacked["image_sha256"].tolist():
            return drawn
    raise DataError(
        f"{path}: is not the test split that {folders.evidence / OUTCOMES} is about; `dvc repro` makes both"
    )


def leave_out(folders: Folders) -> None:
    """Writes the record of an evaluation that certifies nothing."""
    evidence = load_outcomes(folders.evidence / OUTCOMES)
    write_whole(folders.certified / "smoothing.json", canonical_json({"smoothing": [], "proofs": [], "settings": None}))
    Outcomes({name: evidence[name] for name in ("index", "label")}).save(folders.certified / OUTCOMES)


def _identity(
    params: Params, settings: CertifySettings, folders: Folders, index: list[int], device: torch.device
) -> dict[str, Any]:
    """Everything that decides a kept part; the noise's sigma is in its name."""
    return {
        "stage": "certify",
        "settings": settings.model_dump(exclude={"sigma"}),
        "index": index,
        "files": {path.name: sha256_file(path) for path in (folders.data / "test.npz", folders.trained / WEIGHTS)},
        "environment": describe_environment(device, params.cpu_threads),
        "source": source_digest(),
    }


def _noise_of_training(folders: Folders) -> float | None:
    """The sigma that the network was trained with, of the methods that train with Gaussian noise."""
    record = load_record(folders.trained / "training.json", TrainingRecord)
    return record["settings"].get("method", {}).get("sigma")


if __name__ == "__main__":
    stage("certify", main)
