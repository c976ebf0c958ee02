"""model-card.md: what the model is for, what was measured, what was not, with front matter that Hugging Face reads.

Front matter after huggingface.co/docs/hub/model-cards; the threat model has the keys of NIST AI 100-2 (2025).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from bundle.attestation import model_version
from bundle.numbers.claims import ALL_ATTACKS
from bundle.pages import headline
from bundle.pages.wording import FILTERS, INSTALL, TIERS, ball_title, sample_scope, threat_title
from bundle.private import is_private

#: The classifier of a bound that is about model.onnx itself and not about a smoothed one.
SERVED = "served"


def render_card(predicate: Mapping[str, Any], digest: str) -> str:
    """The model card (Markdown with YAML front matter), the same to the byte for the same predicate and release.

    Parameters: `predicate`, the attestation's, with claims and bounds; `digest`, the SHA-256 of model.onnx.
    """
    threat = headline.headline_threat(predicate)
    body = (
        _environment(predicate)
        .get_template("card.md")
        .render(
            predicate=predicate,
            digest=digest,
            version=model_version(digest),
            warnings=headline.warnings(predicate),
            tier=TIERS[predicate["tier"]],
            scope=sample_scope(predicate["sample"]),
            headline_title=threat_title(threat),
            worst=headline.worst_class(predicate, "served", threat["name"]),
            calibration=[headline.calibration(predicate, "served", name) for name in (None, threat["name"])],
            corruptions=headline.corruption_mean(predicate),
            claims=_measured(predicate),
            threats=[threat_title(threat) for threat in predicate["threats"]],
            private=is_private(predicate),
            install=INSTALL,
            proved=_proved(predicate),
            voted=[bound for bound in predicate["bounds"] if bound["classifier"] != SERVED],
        )
    )
    return f"---\n{front_matter(predicate, digest)}---\n\n{body}\n"


def _environment(predicate: Mapping[str, Any]) -> Environment:
    environment: Any = Environment(
        loader=PackageLoader("bundle"), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=plain
    )
    environment.filters.update(FILTERS, ball=partial(ball_title, predicate))
    return environment


def plain(value: Any) -> Any:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no end of a table cell."""
    if not isinstance(value, str):
        return value
    line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", line)


def front_matter(predicate: Mapping[str, Any], digest: str) -> str:
    """The YAML block, without its fences: metadata and a model index with the accuracies, in [0, 1]."""
    data = predicate["data"]["name"]
    sample, test = predicate["sample"], predicate["data"]["splits"]["test"]
    drawn = {"images": sample["size"], "of": sample["of"], "seed": sample["seed"], "sha256": test["sha256"]}
    metrics = [_metric(predicate, claim) for claim in [*_indexed(predicate), *_proved(predicate)]]
    results = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": data, "name": data, "split": "test", "args": drawn},
        "metrics": metrics,
    }
    name = f"{predicate['method']['name']}-{data}-{model_version(digest)}"
    return "".join(
        _yaml(
            {
                # The predicate knows the licence of the images, not one that the maker would give the weights.
                "license": "other",
                "license_name": "not-stated",
                "library_name": "onnx",
                "pipeline_tag": "image-classification",
                "tags": [
                    "adversarial-robustness",
                    "robustness",
                    "onnx",
                    predicate["method"]["name"],
                    *_threat_names(predicate),
                ],
                "datasets": [data],
                "metrics": list(dict.fromkeys(metric["type"] for metric in metrics)),
                "model-index": [{"name": name, "results": [results]}],
            }
        )
    )


def _threat_names(predicate: Mapping[str, Any]) -> list[str]:
    return [threat["name"] for threat in predicate["threats"]]


def _measured(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The claims, the points of the curve last and by the one attack that they met: "all attacks" are others elsewhere."""
    curve = {item["name"] for item in headline.sweep_threats(predicate)}
    points = [claim for claim in predicate["claims"] if claim.get("threat") in curve]
    return [
        *(claim for claim in predicate["claims"] if claim not in points),
        *(claim for claim in points if claim["attack"] != ALL_ATTACKS),
    ]


def _indexed(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The claims of the model index: clean, and all attacks together at each main threat, in both settings."""
    return [claim for claim in _measured(predicate) if claim.get("attack", ALL_ATTACKS) == ALL_ATTACKS]


def _proved(predicate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The bounds that are about the served classifier; those of smoothed classifiers are about other models."""
    return [bound for bound in predicate["bounds"] if bound["classifier"] == SERVED]


def _metric(predicate: Mapping[str, Any], claim: Mapping[str, Any]) -> dict[str, Any]:
    if claim["metric"] == "clean_accuracy":
        kind, name = "accuracy", f"Clean accuracy ({claim['setting']})"
    elif claim["metric"] == "certified_accuracy":
        kind, name = claim["metric"], f"Certified accuracy, {threat_title(claim)}, {claim['technique']} (lower bound)"
    else:
        ball = ball_title(predicate, claim["threat"])
        kind, name = "robust_accuracy", f"Robust accuracy, {ball}, all attacks ({claim['setting']}, upper bound)"
    interval = [round(end, 6) for end in claim["interval"]]
    arguments = {"correct": claim["correct"], "sample_size": claim["sampleSize"], "interval_95": interval}
    return {"type": kind, "name": name, "value": round(claim["value"], 6), "args": arguments, "verified": False}


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Block YAML of nested dicts and lists; scalars as JSON, which is YAML too."""
    lines: list[str] = []
    for start, item in _entries(value):
        if isinstance(item, dict | list) and item:
            lines += [f"{indent}{start}\n", *_yaml(item, indent + "  ")]
        else:
            lines.append(f"{indent}{start} {_scalar(item)}\n")
    return lines


def _entries(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [("-", item) for item in value]
    return [(f"{key}:", item) for key, item in cast(Mapping[str, Any], value).items()]


def _scalar(value: Any) -> str:
    """JSON, with the characters escaped that YAML does not allow inside quotes."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() else f"\\U{ord(character):08x}" for character in text)
