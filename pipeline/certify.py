"""Stage certify: what is proved, about smoothed classifiers (l2) and about the served classifier itself (l-infinity).

Certified accuracy by radius is also written as a file that DVC plots, and as flat numbers that it compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bundle.digests import canonical_json, sha256_file, write_whole
from bundle.layout import OUTCOMES, WEIGHTS
from bundle.numbers.claims import smoothing_bounds
from bundle.table.columns import proof_column
from bundle.table.outcomes import IMAGE_COLUMNS, Outcomes, image_digests, load_outcomes
from pipeline.certification.program import UnprovableError
from pipeline.certification.radius import Search, default_technique, proved_radii
from pipeline.certification.radius import describe as describe_proofs
from pipeline.certification.smoothed import describe, smoothed_columns
from pipeline.data.split import DataError, Split, load_split
from pipeline.evaluation.running import progress_line
from pipeline.networks.serialisation import load_network
from pipeline.params import CertifySettings, Params
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.devices import choose_device
from pipeline.run.environment import describe_environment, source_digest
from pipeline.run.records import OUT, AttackRecord, Folders, TrainingRecord, load_record
from pipeline.stage import stage

#: What smoothing_bounds() gives for each smoothed classifier, in the settings' order: its curve, then the average radius.
Bounds = Sequence[Sequence[dict[str, Any]]]
#: Radii at which certified accuracy is stated beside those that are attacked, in 255ths.
RADII = (1.0, 2.0, 4.0, 8.0, 16.0)


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes outcomes.parquet (one column per certificate), smoothing.json, curve.csv and metrics.json.

    Finished parts are cached in checkpoints/ until the stage ends, so that the same command goes on after a kill.
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
    """Everything that decides a cached part; the noise's sigma is in its name."""
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


def curve_csv(bounds: Bounds) -> bytes:
    """The first smoothed classifier's curve with its interval, and the others' beside it, a column each."""
    first, *others = [{bound["radius"]: bound for bound in curve} for *curve, _ in bounds]
    names = [curve[0]["classifier"] for *curve, _ in bounds[1:]]
    rows = [["radius", "certified_accuracy", "lower", "upper", *names]]
    for radius in sorted({radius for curve in (first, *others) for radius in curve}):
        bound = first.get(radius)
        cells = [bound["value"], *bound["interval"]] if bound else [None] * 3
        cells += [curve[radius]["value"] if radius in curve else None for curve in others]
        rows.append([str(radius), *("" if cell is None else f"{cell:.6f}" for cell in cells)])
    return "".join(",".join(row) + "\n" for row in rows).encode()


def curve_metrics(bounds: Bounds) -> dict[str, Any]:
    """The first smoothed classifier's numbers, and those of the others below their names."""
    first, *others = [
        {f"certified_at_{bound['radius']}": bound["value"] for bound in curve}
        | {"average_certified_radius": average["value"]}
        for *curve, average in bounds
    ]
    return {**first, **{of[-1]["classifier"]: found for of, found in zip(bounds[1:], others, strict=True)}}


def curve_sentence(curve: Sequence[dict[str, Any]]) -> str:
    """Certified accuracy at up to three radii: the smallest, and those a quarter and half of the way along the curve.

    Not the mean radius, which a trivial classifier can make arbitrarily large (arXiv 2410.06895).
    """
    chosen = [curve[place] for place in dict.fromkeys(len(curve) * quarters // 4 for quarters in (0, 1, 2))]
    return "certified accuracy " + ", ".join(f"{bound['value']:.1%} at l2 {bound['radius']:g}" for bound in chosen)


def with_technique(settings: CertifySettings, image: tuple[int, ...], tier: str) -> CertifySettings:
    """The settings with the technique that images (H, W, C) and the tier of the attacks give, where none is named."""
    technique = settings.proof or default_technique(image, thorough=tier == "thorough")
    return settings.model_copy(update={"proof": technique})


def prove(
    network: nn.Module, test: Split, settings: CertifySettings, attacked: list[float], cache: Cache
) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.float64]]]:
    """The predicate's `proofs` and the column of proved radii; both empty where nothing is asked for or can be proved.

    `network` is on the CPU, in eval mode; `settings` name a technique. `attacked`: the l-infinity radii that were
    attacked, in 255ths.
    """
    assert settings.proof is not None  # with_technique
    if settings.proof == "none":
        return [], {}
    search = Search(settings.proof)
    try:
        radii = proved_radii(network, test.images, test.labels, search, cache=cache)
    except UnprovableError as reason:
        print(f"served classifier: {reason}", flush=True)
        return [], {}
    print(
        f"served classifier: {np.mean(radii >= RADII[0]):.1%} proved at l-infinity {RADII[0]:g}/255, {settings.proof}",
        flush=True,
    )
    return [describe_proofs(search, sorted({*RADII, *attacked}))], {proof_column("linf"): radii}


def attacked_radii(evidence: Mapping[str, Any]) -> list[float]:
    """The l-infinity radii of the evidence, in 255ths; `evidence` is the stage attack's record."""
    return [threat["eps_255"] for threat in evidence["threats"] if threat["norm"] == "linf"]


if __name__ == "__main__":
    stage("certify", main)
