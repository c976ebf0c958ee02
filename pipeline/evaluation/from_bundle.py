"""A published model: a verified bundle with its network rebuilt, which must be the ONNX file's twin."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bundle.bundle import Bundle, open_bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import WEIGHTS
from bundle.served.replay import self_check
from bundle.served.runtime import OnnxClassifier
from pipeline.evaluation.victim import Drawn, torch_logits
from pipeline.networks.serialisation import read_network

#: Twins' logits differ by less, as a fraction of the largest, whatever a bundle says of its parity.
ROUNDING = 0.01


@dataclass(frozen=True)
class RebuiltModel:
    """The bundle, its network in eval mode on the CPU, and the content of weights.safetensors."""

    bundle: Bundle
    network: nn.Module
    weights: bytes

    @property
    def attestation(self) -> str:
        """SHA-256 of the statement."""
        return sha256_bytes(self.bundle.statement_bytes)

    def drawn(self) -> Drawn:
        """The bundle's images, to be attacked again."""
        sample, outcomes = self.bundle.predicate["sample"], self.bundle.outcomes
        return Drawn(
            np.ascontiguousarray(self.bundle.images["clean"]),
            outcomes["label"].astype(np.int64),
            outcomes["index"].astype(np.int64),
            sample["of"],
            sample["seed"],
            sample["rule"],
        )


@dataclass(frozen=True)
class Twin:
    """How far the network and the ONNX file are apart on the evidence; `other` answers differ."""

    difference: float
    images: int
    other: int


def open_published(path: Path, factories: Collection[str] = ()) -> RebuiltModel:
    """Verifies a bundle and rebuilds its network.

    A bundle may name a factory, which is code: it runs where `factories` has its name, as the user asked for it, and
    nowhere else. Raises HallmarkError.
    """
    bundle = open_bundle(path)
    if bundle.evidence == "private":
        raise HallmarkError(f"{path}: has private evidence; only its owner, who has the images, can attack it again")
    description = bundle.predicate["network"]
    factory = description.get("factory")
    if factory is not None and factory not in factories:
        raise HallmarkError(
            f"{path}: its network is made by {factory}{_called(description)}, which is code that would run here; where "
            f"it is the code that you mean, say so with --factory {factory}"
        )
    weights = _weights(path, bundle)
    return RebuiltModel(bundle, read_network(canonical_json(description), weights, str(path)), weights)


def check_twin(published: RebuiltModel, classifier: OnnxClassifier) -> Twin:
    """check_network() on all images of the evidence; this host must give the attested verdicts too, or it raises."""
    bundle, where = published.bundle, published.bundle.path
    twin = check_network(published, classifier, bundle.images)
    check = self_check(classifier, bundle.outcomes, bundle.images, bundle.predicate)
    if not check.passed:
        raise HallmarkError(
            f"{where}: on this host model.onnx answers {check.moved} of the {check.rows} closest images otherwise than "
            f"attested, and {check.allowed} may"
        )
    return twin


def check_network(
    published: RebuiltModel, classifier: OnnxClassifier, evidence: Mapping[str, NDArray[np.uint8]]
) -> Twin:
    """Compares the network with the ONNX file on images uint8 (N, H, W, C) by name, clean and adversarial.

    Raises HallmarkError where logits differ by more than the bundle's parity allows, or than rounding can explain
    whatever it allows, and where more answers differ than its self-check lets move.
    """
    bundle, where = published.bundle, published.bundle.path
    tolerance, allowed = bundle.predicate["parity"]["tolerance"], bundle.predicate["selfCheck"]["allowedMoved"]
    difference, worst, images, other, scale = 0.0, "clean", 0, 0, 1.0
    for name, array in evidence.items():
        expected, found = torch_logits(published.network, array), classifier.logits_in_batches(array)
        if expected.shape != found.shape:
            raise HallmarkError(
                f"{where}: the network returns {expected.shape[1:]} logits, model.onnx {found.shape[1:]}"
            )
        largest = float(np.abs(expected - found).max())
        if not largest <= difference:  # so written, logits that are no numbers are the largest
            difference, worst = largest, name
        scale = max(scale, float(np.abs(found).max()))
        images, other = images + len(array), other + int((expected.argmax(1) != found.argmax(1)).sum())
    if not difference <= tolerance:
        raise HallmarkError(
            f"{where}: the network is not the twin of model.onnx: their logits differ by up to {difference:.3g} (on "
            f"{worst}), and the bundle allows {tolerance:.3g}"
        )
    if difference > ROUNDING * scale:
        raise HallmarkError(
            f"{where}: the network is not the twin of model.onnx: their logits differ by up to {difference:.3g} (on "
            f"{worst}), which is no rounding of logits up to {scale:.3g}, though the bundle allows {tolerance:.3g}"
        )
    if other > allowed:
        raise HallmarkError(
            f"{where}: the network is not the twin of model.onnx: on {other} of {images} images it gives another class, "
            f"and {allowed} may differ (logits differ by up to {difference:.3g})"
        )
    return Twin(difference, images, other)


def check_companion(published: RebuiltModel, victim: RebuiltModel) -> None:
    """Raises HallmarkError where images for one model cannot be carried over to the other."""
    own, other = victim.bundle.predicate["data"], published.bundle.predicate["data"]
    for field, what in (("shape", "images of shape"), ("classes", "the classes")):
        if own[field] != other[field]:
            raise HallmarkError(
                f"--transfer-from {published.bundle.path}: takes {what} {other[field]}, {victim.bundle.path} takes "
                f"{own[field]}"
            )


def _called(description: Mapping[str, Any]) -> str:
    arguments = description.get("arguments") or {}
    return f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _weights(path: Path, bundle: Bundle) -> bytes:
    """The bytes that were verified: read once more, and compared with the attested digest."""
    content = (path / WEIGHTS).read_bytes()
    attested = {item["name"]: item["sha256"] for item in bundle.predicate["files"]}
    if sha256_bytes(content) != attested[WEIGHTS]:
        raise HallmarkError(f"{path / WEIGHTS}: was changed while the bundle was read")
    return content
