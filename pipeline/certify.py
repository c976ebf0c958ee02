"""Stage certify: l2 radii that randomized smoothing proves, for the smoothed classifier and for no other."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from bundle.claims import find_claim, smoothing_bounds
from bundle.digests import canonical_json, write_whole
from bundle.layout import OUTCOMES
from bundle.outcomes import Outcomes, load_outcomes
from bundle.smoothing import Scores, certified_radii, vote
from pipeline.data.split import load_split
from pipeline.params import CertifySettings, Params
from pipeline.serialisation import load_network
from pipeline.stage import stage
from pipeline.training.devices import choose_device

DATA, TRAINED, EVIDENCE, OUT = Path("out/data"), Path("out/train"), Path("out/evidence"), Path("out/certified")
RADII = [round(0.1 * step, 1) for step in range(11)]


def main(params: Params) -> None:
    """Writes outcomes.parquet (the smoothed classifier's columns), smoothing.json, curve.csv and metrics.json."""
    settings = params.certify
    index = load_outcomes(EVIDENCE / OUTCOMES)["index"]
    test = load_split(DATA / "test.npz").take(index)
    columns = smoothed_columns(load_network(TRAINED), test.images, index, settings, choose_device(params.device))
    outcomes = Outcomes({"index": index, "label": test.labels, **columns})
    described = describe(settings)
    bounds = {"claims": [], "bounds": smoothing_bounds(outcomes, described)}
    curve = ["radius,certified_accuracy,lower,upper"]
    for radius in RADII:
        bound = find_claim(bounds, "certified_accuracy", radius=radius)
        assert bound is not None  # every radius of the curve has a bound
        curve.append(f"{radius},{bound['value']:.6f},{bound['interval'][0]:.6f},{bound['interval'][1]:.6f}")
    average = find_claim(bounds, "average_certified_radius")
    assert average is not None
    write_whole(OUT / "smoothing.json", canonical_json({"smoothing": [described], "settings": settings.model_dump()}))
    write_whole(OUT / "curve.csv", ("\n".join(curve) + "\n").encode())
    metrics = {f"certified_at_{line.split(',')[0]}": float(line.split(",")[1]) for line in curve[1:]}
    write_whole(OUT / "metrics.json", canonical_json({**metrics, "average_certified_radius": average["value"]}))
    outcomes.save(OUT / OUTCOMES)
    print(
        f"smoothed classifier, sigma {settings.sigma:g} (not the served one): "
        f"average certified l2 radius {average['value']:.3f}"
    )


def smoothed_columns(
    network: nn.Module,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    settings: CertifySettings,
    device: torch.device,
) -> dict[str, NDArray]:
    """Selected class, count and radius of every image uint8 (N, H, W, C); `index` seeds each image's noise."""
    network = network.to(device).eval()
    votes = [
        vote(
            _scores(network, device),
            image.astype(np.float32) / np.float32(255),
            sigma=settings.sigma,
            selection=settings.selection,
            estimation=settings.estimation,
            seed=settings.seed,
            index=int(row),
        )
        for image, row in track(
            zip(images, index, strict=True),
            "certifying",
            total=len(images),
            disable=not sys.stdout.isatty(),
            transient=True,
        )
    ]
    name, successes = smoothed_name(settings), np.array([item.successes for item in votes])
    return {
        f"{name}/selected": np.array([item.selected for item in votes]),
        f"{name}/successes": successes,
        f"{name}/radius": certified_radii(successes, settings.estimation, settings.sigma, settings.alpha),
    }


def smoothed_name(settings: CertifySettings) -> str:
    """The smoothed classifier's name: it is another classifier than the one that answers."""
    return f"smoothed-{settings.sigma:g}"


def describe(settings: CertifySettings) -> dict:
    """The smoothing as the attestation's predicate records it."""
    return {
        "name": smoothed_name(settings),
        **settings.model_dump(include={"sigma", "selection", "estimation", "alpha", "seed"}),
        "radii": RADII,
        "statement": "About the smoothed classifier (the class that the served network answers most often under "
        "Gaussian noise), in l2, each image's radius with confidence 1 - alpha; /predict answers with the network.",
    }


def _scores(network: nn.Module, device: torch.device) -> Scores:
    @torch.no_grad()
    def scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return network(torch.from_numpy(images).permute(0, 3, 1, 2).to(device)).float().cpu().numpy()

    return scores


if __name__ == "__main__":
    stage("certify", main)
