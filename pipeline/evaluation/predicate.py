"""The attestation's predicate, collected from what the stages left beside their outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.digests import sha256_file
from bundle.errors import HallmarkError
from bundle.layout import NETWORK, WEIGHTS
from bundle.replay import SELF_CHECK_ROWS
from bundle.runtime import OnnxClassifier
from bundle.threats import NORMS, Norm
from pipeline.environment import source_digest
from pipeline.evaluation.ledger import RULE, count_test_reads


@dataclass(frozen=True)
class Folders:
    """Where a run's parts lie, below `out`."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def trained(self) -> Path:
        return self.root / "train"

    @property
    def model(self) -> Path:
        return self.root / "model.onnx"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def certified(self) -> Path:
        return self.root / "certified"

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"


def build_predicate(folders: Folders, classifier: OnnxClassifier) -> dict[str, Any]:
    """Everything that the schema asks for but claims, bounds and files, which assemble() computes.

    The settings are those that the stages recorded when they ran, not those that params.yaml names now.
    Raises HallmarkError where a stage has not left its file, or the parts are of different runs.
    """
    manifest = _read(folders.data / "manifest.json")
    training = _read(folders.trained / "training.json")
    evidence = _read(folders.evidence / "attacks.json")
    smoothing = _read(folders.certified / "smoothing.json")
    export = _read(folders.root / "parity.json")
    if classifier.classes != len(manifest["classes"]):
        raise HallmarkError(f"{folders.model}: has {classifier.classes} classes, the data {len(manifest['classes'])}")
    return {
        "schema": "1",
        "assuranceLevel": "self_attested",
        "model": {
            "parameters": training["parameters"],
            "format": "ONNX, uint8 NHWC to logits",
        },
        "network": _read(folders.trained / NETWORK),
        "method": {**training["method"], "settings": _without_name(training["settings"]["method"])},
        "parameters": {
            **training["settings"],
            "data": manifest["settings"],
            "export": export["settings"],
            "attack": evidence["settings"],
            "certify": smoothing["settings"],
        },
        "data": _data(manifest),
        "selection": training["selection"],
        "testReads": {
            "models": count_test_reads(sha256_file(folders.trained / WEIGHTS), manifest["splits"]["test"]["sha256"]),
            "rule": RULE,
        },
        **{key: evidence[key] for key in ("sample", "threats", "attacks", "sanity")},
        "smoothing": smoothing["smoothing"],
        "parity": export["parity"],
        # On the machine that made the bundle none moves; another CPU may turn a verdict that hangs by rounding.
        "selfCheck": {"rows": SELF_CHECK_ROWS, "allowedMoved": 1},
        "environment": {**training["environment"], "judged_by": classifier.provider},
        "source": {"sha256": source_digest()},
        "notTested": _not_tested(training, evidence),
    }


def _not_tested(training: dict[str, Any], evidence: dict[str, Any]) -> list[str]:
    untested = [
        _untested_balls({threat["norm"] for threat in evidence["threats"]}),
        "rotation, translation and other spatial changes",
        "common corruptions: blur, noise, weather, compression",
        "attacks through queries alone on the running service",
        "poisoned training data, and images from another distribution than the test split",
    ]
    if "autoattack" not in {attack["name"] for attack in evidence["attacks"]}:
        untested.insert(0, "AutoAttack (the tier is quick)")
    if training["settings"]["network"]["guide"]:
        untested.append("adaptive attacks that use the guide network")
    return untested


def _untested_balls(tested: set[Norm]) -> str:
    """Norms without any attack, and the radii of the others that are not listed."""
    words = {"linf": "l-infinity", "l2": "l2", "l1": "l1"}
    attacked, untested = ([words[norm] for norm in NORMS if (norm in tested) == wanted] for wanted in (True, False))
    others = f"perturbations in {' and '.join(untested)}, and " if untested else ""
    return (
        f"{others}{', '.join(attacked[:-1])}{' and ' if attacked[1:] else ''}{attacked[-1]} radii that are not listed"
    )


def _data(manifest: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "classes", "source", "licence", "preprocessing", "leakage")
    return {
        **{key: manifest[key] for key in kept},
        "shape": manifest["image_shape"],
        "splits": manifest["splits"],
        **({"extra": manifest["extra"]} if "extra" in manifest else {}),
    }


def _without_name(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "name"}


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HallmarkError(f"{path}: is missing; `dvc repro` makes it") from None
