"""Real bundles for tests, made in a tenth of a second and without torch: digits, a linear classifier, FGSM-like attacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from bundle.assembly import assemble
from bundle.corruptions import NAMES as CORRUPTIONS
from bundle.corruptions import SEVERITIES
from bundle.numbers.proofs import certified_radii
from bundle.served.replay import judge
from bundle.served.runtime import OnnxClassifier
from bundle.table.columns import corruption_column, proof_column
from bundle.table.outcomes import Outcomes, distance_column, image_digests
from bundle.table.threats import RADIUS_FIELD, Threat, answering

SIZE = (8, 8, 1)
TRAINED = Threat("linf", 32.0)
#: Nothing that the splits share.
LEAKAGE = {
    **{f"{split}_images_{how}_train": 0 for split in ("test", "validation") for how in ("also_in", "near")},
    **{count: {"train": 0, "validation": 0, "test": 0} for count in ("repeated", "two_labels")},
}


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's digits as uint8 (1797, 8, 8, 1), and labels."""
    source = load_digits()
    return np.rint(source.images * 255 / 16).astype(np.uint8)[..., None], source.target.astype(np.int64)


def linear_model(seed: int = 0, noise: float = 0.0) -> tuple[bytes, NDArray[np.float32], NDArray[np.float32]]:
    """An ONNX file with the served contract around a logistic regression; `noise` on the weights gives another version."""
    images, labels = digits()
    fitted = LogisticRegression(max_iter=200).fit(images[:1000].reshape(1000, -1) / 255.0, labels[:1000])
    generator = np.random.default_rng(seed)
    weight = (fitted.coef_.T + noise * generator.standard_normal(fitted.coef_.T.shape)).astype(np.float32)
    bias = fitted.intercept_.astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "levels"], ["unit"]),
        helper.make_node("Flatten", ["unit"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(np.float32(255), "levels"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(), weight, bias


def _outcomes(
    model: bytes,
    weight: NDArray[np.float32],
    images: dict[str, NDArray[np.uint8]],
    labels: NDArray[np.int64],
    start: int,
    full: bool,
) -> Outcomes:
    classifier = OnnxClassifier(model, threads=1, device="cpu")
    columns: dict[str, Any] = {
        "index": np.arange(start, start + len(labels)),
        "label": labels,
        "image_sha256": image_digests(images["clean"]),
    }
    for name, array in images.items():
        verdicts = judge(classifier, array, labels)
        for setting in ("reference", "served"):
            if name != "clean":
                columns[f"{setting}/{name}/broken"] = verdicts.predictions != labels
            columns[f"{setting}/{name}/prediction"] = verdicts.predictions
            columns[f"{setting}/{name}/margin"] = verdicts.margins
            columns[f"{setting}/{name}/confidence"] = verdicts.confidences
    if full:
        columns |= _corrupted(classifier, images["clean"], labels)
        columns[distance_column("cw")] = _distances(classifier, weight, images["clean"], labels)
        columns[proof_column("linf")] = _proved(classifier, weight, images["clean"], labels)
    successes = np.random.default_rng(0).integers(400, 1000, len(labels))
    columns["smoothed-0.25/selected"] = columns["served/clean/prediction"]
    columns["smoothed-0.25/successes"] = successes
    columns["smoothed-0.25/radius"] = certified_radii(successes, 1000, 0.25, 0.001)
    return Outcomes(columns)


def _corrupted(
    classifier: OnnxClassifier, clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Answers to images with noise that grows with severity, drawn anew for each name."""
    columns: dict[str, NDArray[Any]] = {}
    for number, name in enumerate(CORRUPTIONS):
        noise = np.random.default_rng(number).normal(0, 16, clean.shape)
        for severity in SEVERITIES:
            noisy = np.clip(np.rint(clean + severity * noise), 0, 255).astype(np.uint8)
            columns[corruption_column(name, severity)] = judge(classifier, noisy, labels).predictions
    return columns


def _distances(
    classifier: OnnxClassifier, weight: NDArray[np.float32], clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The l2 distance to a linear classifier's nearest other class; +inf for every ninth image, as if it was not found."""
    logits = classifier.logits_in_batches(clean).astype(np.float64)
    gaps = logits[np.arange(len(labels)), labels][:, None] - logits
    slopes = np.linalg.norm(weight.T[labels][:, None, :].astype(np.float64) - weight.T[None], axis=2)
    distances = np.divide(gaps, slopes, out=np.full_like(gaps, np.inf), where=slopes > 0).min(axis=1)
    return np.where(np.arange(len(labels)) % 9 == 8, np.inf, np.maximum(distances, 0.0))


def _proved(
    classifier: OnnxClassifier, weight: NDArray[np.float32], clean: NDArray[np.uint8], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The l∞ radius in 255ths within which a linear classifier's answer is right, less a quarter; 0 where that is none."""
    logits = classifier.logits_in_batches(clean).astype(np.float64)
    gaps = logits[np.arange(len(labels)), labels][:, None] - logits
    slopes = np.abs(weight.T[labels][:, None, :].astype(np.float64) - weight.T[None]).sum(axis=2)
    radii = 255 * np.divide(gaps, slopes, out=np.full_like(gaps, np.inf), where=slopes > 0).min(axis=1)
    return np.maximum(np.floor(4 * radii - 1) / 4, 0.0)


def _surface(
    classifier: OnnxClassifier, clean: NDArray[np.uint8], adversarial: NDArray[np.uint8], label: int, threat: str
) -> dict[str, Any]:
    """The cross-entropy around the first image, towards an adversarial one and towards random corners."""
    steps, span, generator = 5, 1.0, np.random.default_rng(0)
    along = adversarial.astype(np.float64) - clean
    across = np.abs(along).max() * generator.choice([-1.0, 1.0], clean.shape)
    places = np.linspace(-span, span, steps)
    square = np.stack([clean + first * along + second * across for first in places for second in places])
    logits = classifier.logits_in_batches(np.clip(np.rint(square), 0, 255).astype(np.uint8)).astype(np.float64)
    losses = np.log(np.exp(logits - logits[:, [label]]).sum(axis=1)).reshape(steps, steps)
    return {
        "threat": threat,
        "rows": [1200],
        "span": span,
        "steps": steps,
        "losses": np.round(losses, 4).tolist(),
        "roughness": round(float(np.abs(np.diff(losses, 2, axis=0)).mean()), 4),
        "roughnessMeaning": "mean absolute second difference along the adversarial direction",
    }


def _levels(direction: NDArray[Any], threat: Threat) -> NDArray[np.int64]:
    """Whole levels within the ball along a direction: the corner of l∞, the point of l2, the largest pixel of l1."""
    if threat.norm == "linf":
        return threat.levels * np.sign(direction).astype(np.int64)
    flat = direction.reshape(len(direction), -1).astype(np.float64)
    if threat.norm == "l2":
        levels = np.trunc(flat / np.linalg.norm(flat, axis=1, keepdims=True) * threat.levels**0.5)
    else:
        largest = np.abs(flat).argmax(axis=1)[:, None]
        levels = np.zeros_like(flat)
        np.put_along_axis(levels, largest, threat.levels * np.sign(np.take_along_axis(flat, largest, 1)), axis=1)
    return levels.astype(np.int64).reshape(direction.shape)


def make_bundle(
    folder: Path,
    *,
    seed: int = 0,
    noise: float = 0.0,
    rows: int = 60,
    eps: tuple[int, ...] = (16, 32),
    others: tuple[Threat, ...] = (),
    sweep: tuple[float, ...] = (),
    trained: Threat | None = TRAINED,
    named: bool = True,
    tier: str = "standard",
    attacks: tuple[str, ...] = ("pgd-10", "margin"),
    attack_seed: int | None = None,
    method: str | None = None,
    not_tested: tuple[str, ...] = ("l2 and l1 perturbations", "common corruptions", "poisoning"),
) -> Path:
    """Writes a complete, verifying bundle of the linear digits classifier into `folder` and returns it.

    `eps` are its l∞ radii, `others` threats of other norms, `sweep` l∞ radii that met the margin attack alone; `trained`
    is the threat of the training, None for a model from elsewhere, and `named` whether the main threats are named, as
    bundles of before do not. The first threats of different norms make a union. The tier quick has no corruptions,
    distances, proofs and surface. `attack_seed` draws the random corners of pgd-10 (where it is not given: `seed`); the
    model is the same for the same `seed` and `noise`. `method` is what params.yaml is said to have named.
    """
    attack_seed = seed if attack_seed is None else attack_seed
    model, weight, bias = linear_model(seed, noise)
    clean, labels = (array[1200 : 1200 + rows] for array in digits())
    main = [*(Threat("linf", value) for value in eps), *others]
    threats = [*(Threat("linf", value) for value in sorted({*eps, *sweep})), *others]
    headline = answering(main, trained)
    images = {"clean": clean}
    generator = np.random.default_rng(attack_seed)
    for threat in threats:
        # The steepest direction of a linear classifier, towards the best other class; and random corners as a weak
        # attack.
        logits = clean.reshape(rows, -1).astype(np.float32) / 255 @ weight + bias
        logits[np.arange(rows), labels] = -np.inf
        direction = (weight[:, logits.argmax(1)] - weight[:, labels]).T.reshape(clean.shape)
        corners = generator.choice([-1, 1], clean.shape)
        for name, step in (("pgd-10", corners), ("margin", direction)):
            if name in attacks and (threat in main or name == "margin"):
                images[f"{threat.name}/{name}"] = np.clip(clean + _levels(step, threat), 0, 255).astype(np.uint8)
    full = tier != "quick"
    outcomes = _outcomes(model, weight, images, labels, 1200, full)
    first = {threat.norm: threat.name for threat in reversed(main)}
    harness = {"name": "hallmark", "version": "1", "digest": {"sha256": "0" * 64}}
    described = [
        {
            "threat": threat.name,
            "name": name,
            "harness": harness,
            "settings": {"steps": 10, "restarts": 1, **({"seed": attack_seed} if name == "pgd-10" else {})},
            "flags": [],
        }
        for threat in threats
        for name in attacks
        if threat in main or name == "margin"
    ]
    classifier = OnnxClassifier(model, threads=1, device="cpu")
    split = {"count": rows, "sha256": "0" * 64}
    predicate = {
        "schema": "1",
        "assuranceLevel": "self_attested",
        "tier": tier,
        "merged": None,
        "model": {"parameters": int(weight.size + bias.size), "format": "ONNX, opset 20"},
        "network": {"name": "linear", "classes": 10, "channels": 1},
        "method": {
            "name": method or "d2r_cag",
            "title": method or "D²R-CAG",
            "paper": "arXiv 2506.07056",
            "reconstructed": False,
            "settings": {"alpha": 30.0, "beta": 20.0, "lambda": 1.0},
        },
        "parameters": {
            "seed": seed,
            "threads": 2,
            "data": {"name": "digits"},
            **({"method": {"name": method}} if method else {}),
            **({"threat": {"norm": trained.norm, RADIUS_FIELD[trained.norm]: trained.size}} if trained else {}),
            "attack": {"tier": tier, "seed": attack_seed},
        },
        "data": {
            "name": "digits",
            "classes": [str(digit) for digit in range(10)],
            "shape": list(SIZE),
            "source": "scikit-learn's load_digits",
            "licence": "CC BY 4.0",
            "splits": {"train": split, "validation": split, "test": split},
            "leakage": LEAKAGE,
        },
        "selection": {
            "rule": "highest PGD-10 accuracy on the validation split",
            "split": "validation",
            "epoch": 3,
            "curve": [
                {"epoch": epoch, "loss": 2.5 - 0.5 * epoch, "clean": 0.3 * epoch, "pgd_10": 0.2 * epoch}
                for epoch in (1, 2, 3)
            ],
        },
        "testReads": {
            "models": 1,
            "rule": "models measured on this test split, in the order known here, up to this one",
        },
        "sample": {"size": rows, "of": 360, "seed": 0, "rule": "stratified draw"},
        "threats": [threat.describe() for threat in threats],
        **({"mainThreats": [headline.name, *(item.name for item in main if item != headline)]} if named else {}),
        "unions": [{"name": "union", "threats": sorted(first.values())}] if len(first) > 1 else [],
        "attacks": described,
        "corruptions": {"names": [*CORRUPTIONS], "severities": [*SEVERITIES], "seed": 0, "harness": harness}
        if full
        else None,
        "distances": [{"name": "cw", "norm": "l2", "harness": harness, "settings": {"steps": 100}}] if full else [],
        "surface": _surface(
            classifier, clean[0], images[f"{threats[0].name}/{attacks[-1]}"][0], int(labels[0]), threats[0].name
        )
        if full
        else None,
        "proofs": [
            {
                "name": "served-linf",
                "norm": "linf",
                "technique": "exact, linear",
                "eps_255": [1, 2, 4],
                "tolerance_255": 0.25,
                "arithmetic": "real arithmetic, computed in float64",
                "harness": harness,
                "settings": {},
            }
        ]
        if full
        else [],
        "smoothing": [
            {
                "name": "smoothed-0.25",
                "sigma": 0.25,
                "selection": 100,
                "estimation": 1000,
                "alpha": 0.001,
                "seed": 0,
                "radii": [0.0, 0.25, 0.5, 0.75, 1.0],
                "statement": "About the smoothed classifier, in l2; /predict answers with another one.",
            }
        ],
        "sanity": [
            {
                "check": "large_eps",
                "statistic": 0.0,
                "comparator": "<=",
                "threshold": 0.1,
                "outcome": "pass",
                "passed": True,
                "meaning": "accuracy under attack at eps 128/255",
            }
        ],
        "parity": {"largestLogitDifference": 1e-6, "tolerance": 1e-3, "disagreements": 0, "images": 3 * rows},
        "selfCheck": {"rows": 64, "allowedMoved": 0},
        "environment": {
            "python": "3.11",
            "packages": {"torch": "2.13.0"},
            "installed": [
                {"name": "numpy", "version": "2.4.6"},
                {"name": "rich", "version": "15.0.0", "sha256": ["0" * 64]},
            ],
            "lock_sha256": "0" * 64,
            "device": "cpu",
            "threads": 2,
            "judged_by": "CPUExecutionProvider",
        },
        "source": {"sha256": "0" * 64},
        "notTested": list(not_tested),
    }
    weights = save({"weight": weight, "bias": bias})
    assemble(folder, model=model, weights=weights, outcomes=outcomes, images=images, predicate=predicate)
    return folder
