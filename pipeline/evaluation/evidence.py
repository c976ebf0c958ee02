"""Evidence of an evaluation: the outcome table's reference columns, and the adversarial images on the 8-bit grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.outcomes import Outcomes, image_digests, margins
from bundle.replay import Verdicts, judge
from bundle.runtime import OnnxClassifier
from pipeline.attacks.threat import attacked_threats, to_grid, to_unit
from pipeline.data.split import Split, stratified
from pipeline.evaluation.sanity import sanity_checks
from pipeline.evaluation.suite import Sample, run_suite
from pipeline.params import AttackSettings


@dataclass(frozen=True)
class Evidence:
    """What the attack stage leaves: outcomes (reference columns), images by name (uint8 NHWC), and how they were made."""

    outcomes: Outcomes
    images: dict[str, NDArray[np.uint8]]
    description: dict[str, Any]


def gather_evidence(
    network: nn.Module,
    test: Split,
    settings: AttackSettings,
    *,
    device: torch.device,
    classes: int,
    say: Callable[[str], None],
) -> Evidence:
    """Attacks a network on a stratified sample of the test split, in float32.

    Every attack's candidate is kept, whether it broke the image or not: on the grid and in ONNX Runtime it is judged
    anew.
    """
    rows = stratified(test.labels, settings.images or len(test), settings.seed)
    drawn = test.take(rows)
    clean = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous()
    sample = Sample(to_unit(clean).to(device), torch.from_numpy(drawn.labels).to(device), torch.from_numpy(rows))
    network = network.to(device).eval()
    columns: dict[str, Any] = {"index": rows, "label": drawn.labels, "image_sha256": image_digests(drawn.images)}
    judged = judge_reference(network, sample.images, drawn.labels, settings.batch_size)
    columns |= {"reference/clean/prediction": judged.predictions, "reference/clean/margin": judged.margins}
    images, attacks = {"clean": drawn.images}, []
    threats = attacked_threats(settings)
    for threat in threats:
        for finding in run_suite(network, sample, threat=threat, settings=settings, classes=classes, say=say):
            key = f"{threat.name}/{finding.name}"
            verdicts = judge_reference(network, finding.images, drawn.labels, settings.batch_size)
            columns[f"reference/{key}/broken"] = verdicts.predictions != drawn.labels
            columns[f"reference/{key}/margin"] = verdicts.margins
            images[key] = to_grid(finding.images.cpu(), clean, threat).permute(0, 2, 3, 1).contiguous().numpy()
            attacks.append(finding.describe())
    description = {
        "sample": {
            "size": len(rows),
            "of": len(test),
            "seed": settings.seed,
            "rule": "stratified draw from the test split: every class keeps its share",
        },
        "threats": [threat.describe() for threat in threats],
        "attacks": attacks,
        "sanity": sanity_checks(network, sample, threats[0], settings),
        "settings": settings.model_dump(),
    }
    return Evidence(Outcomes(columns), images, description)


def served_columns(
    classifier: OnnxClassifier, images: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """The outcome table's served columns: every image of the evidence replayed through the exported file."""
    columns: dict[str, NDArray[Any]] = {}
    for name, array in images.items():
        verdicts = judge(classifier, array, labels)
        if name == "clean":
            columns["served/clean/prediction"] = verdicts.predictions
        else:
            columns[f"served/{name}/broken"] = verdicts.predictions != labels
        columns[f"served/{name}/margin"] = verdicts.margins
    return columns


@torch.no_grad()
def judge_reference(network: nn.Module, images: Tensor, labels: NDArray[np.int64], batch_size: int) -> Verdicts:
    """Verdicts of the network itself: `images` float (N, C, H, W) in [0, 1] on its device, `labels` (N,).

    The network is in eval mode, in float32.
    """
    logits = torch.cat([network(batch) for batch in images.split(batch_size)]).float().cpu().numpy()
    return Verdicts(logits.argmax(axis=1), margins(logits, labels))
