"""mlbom.cdx.json: the model, what it was made from and what was measured, as a CycloneDX 1.6 bill of materials.

Fields after cyclonedx.org/docs/1.6/json. It is reproducible byte for byte: no timestamp, and a serial number that follows
from the content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from bundle.attestation import PREDICATE_TYPE, model_version
from bundle.digests import canonical_json, sha256_bytes
from bundle.layout import ATTESTATION, BOM, CARD, IMAGES, MODEL, OUTCOMES, REPORT
from bundle.pages import headline
from bundle.pages.performance import performance_metrics
from bundle.pages.wording import (
    TIERS,
    chosen_by,
    leaves,
    listing,
    sample_scope,
    threat_title,
    trained,
)
from bundle.private import is_private

SPECIFICATION = "1.6"
#: Files that only repeat the attestation: the pages for people, made after the BOM, and the BOM itself.
REPEATING = (CARD, REPORT, BOM)
#: Files that convey information; the others are parts of the model.
EVIDENCE = (OUTCOMES, IMAGES)


def render_bom(predicate: Mapping[str, Any], digest: str) -> bytes:
    """The ML-BOM as JSON, the same to the byte for the same predicate.

    Parameters: `predicate`, the attestation's, with claims and bounds; `digest`, the SHA-256 of model.onnx. Of the
    predicate's `files` those are left out that only repeat it: the BOM lies beside them in the bundle.
    """
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [_tool(predicate)]},
            "component": _bundle(digest),
        },
        "components": [_model(predicate, digest), *_files(predicate), *_data(predicate), *_environment(predicate)],
        "dependencies": _dependencies(predicate),
        # The packages are those that the pipeline needs, not everything of the machine.
        "compositions": [{"aggregate": "incomplete", "dependencies": ["model"]}],
    }
    serial = uuid5(NAMESPACE_URL, f"{PREDICATE_TYPE}:{sha256_bytes(canonical_json(document))}")
    return canonical_json({**document, "serialNumber": f"urn:uuid:{serial}"})


def _tool(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """What measured the model: its release has no number of its own, so the digest of its sources stands for one."""
    source = predicate["source"]["sha256"]
    return {"type": "application", "name": "hallmark", "properties": _properties({"sourceSha256": source})}


def _bundle(digest: str) -> dict[str, Any]:
    return {
        "bom-ref": "bundle",
        "type": "data",
        "name": "hallmark-bundle",
        "version": model_version(digest),
        "description": "A model, the evidence of its robustness, and the attestation that binds them.",
        "externalReferences": [
            {"type": "attestation", "url": ATTESTATION},
            {"type": "quality-metrics", "url": REPORT},
        ],
    }


def _model(predicate: Mapping[str, Any], digest: str) -> dict[str, Any]:
    method = predicate["method"]
    return {
        "bom-ref": "model",
        "type": "machine-learning-model",
        "name": f"{method['name']}-{predicate['data']['name']}",
        "version": model_version(digest),
        "description": f"Image classifier in {MODEL}. {trained(method)}.",
        "hashes": _hashes(digest),
        "externalReferences": [
            {"type": "model-card", "url": CARD},
            {"type": "evidence", "url": OUTCOMES},
        ],
        "properties": _properties(
            {
                "file": MODEL,
                "format": predicate["model"]["format"],
                "parameters": predicate["model"]["parameters"],
                "reconstructedMethod": method["reconstructed"],
            }
        ),
        "modelCard": _model_card(predicate),
    }


def _model_card(predicate: Mapping[str, Any]) -> dict[str, Any]:
    data = predicate["data"]
    shape = ", ".join(map(str, data["shape"]))
    return {
        "bom-ref": "model-card",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image-classification",
            "modelArchitecture": str(predicate["network"].get("name", "not stated")),
            "datasets": [{"ref": item["bom-ref"]} for item in _data(predicate)],
            "inputs": [{"format": f"images: uint8 (N, {shape})"}],
            "outputs": [{"format": f"logits: float32 (N, {len(data['classes'])})"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(performance_metrics(predicate))},
        "considerations": _considerations(predicate),
        "properties": _properties(
            {
                "assuranceLevel": predicate["assuranceLevel"],
                "tier": predicate["tier"],
                "reliable": predicate["reliable"],
                "selection": chosen_by(predicate["selection"]),
                "testReads": predicate["testReads"]["models"],
                **({"privateEvidence": predicate["privateEvidence"]["root"]} if is_private(predicate) else {}),
                **{f"network.{name}": value for name, value in leaves(predicate["network"])},
                **{f"parameters.{name}": value for name, value in leaves(predicate["parameters"])},
            }
        ),
    }


def _considerations(predicate: Mapping[str, Any]) -> dict[str, Any]:
    balls = listing([threat_title(threat) for threat in predicate["threats"]])
    scope = sample_scope(predicate["sample"])
    return {
        "users": ["those who decide whether this file may be served", "those who study robustness"],
        "useCases": [f"to classify images like those of {predicate['data']['name']} ({predicate['data']['source']})"],
        "technicalLimitations": [
            *headline.warnings(predicate),
            f"Robust accuracies are upper bounds under the attacks that were run, within {balls}.",
            f"Evaluated in the tier {predicate['tier']}: {TIERS[predicate['tier']]}.",
            *([scope] if scope else []),
            *(f"Not tested: {item}" for item in predicate["notTested"]),
        ],
        "ethicalConsiderations": [
            {"name": "Decisions about people", "mitigationStrategy": "Not meant for them; fairness was not measured."}
        ],
    }


def _files(predicate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The bundle's other files, but those that repeat the attestation."""
    for item in predicate["files"]:
        if item["name"] not in REPEATING:
            yield {
                "bom-ref": f"file:{item['name']}",
                "type": "data" if item["name"] in EVIDENCE else "file",
                "name": item["name"],
                "hashes": _hashes(item["sha256"]),
                "properties": _properties({"bytes": item["size"]}),
            }


def _data(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The splits of the data set, and additional training images where there were any."""
    data = predicate["data"]
    found = [
        _data_set(predicate, name, f"{split['count']} images", split["sha256"], "uint8 images, then int64 labels")
        for name, split in sorted(data["splits"].items())
        if split["count"]
    ]
    if "extra" in data:
        size = f"{data['extra']['images']} additional training images, {data['extra']['share']:g} of every batch"
        found.append(_data_set(predicate, "extra", size, data["extra"]["file_sha256"], "the file"))
    return found


def _data_set(predicate: Mapping[str, Any], name: str, size: str, digest: str, of: str) -> dict[str, Any]:
    data = predicate["data"]
    # Whoever took additional images knows their source and licence; the attestation does not.
    own = name != "extra"
    return {
        "bom-ref": f"data:{name}",
        "type": "data",
        "name": f"{data['name']} {name}",
        "hashes": _hashes(digest),
        **({"licenses": [{"license": {"name": data["licence"]}}]} if own and data["licence"] else {}),
        "data": [
            {
                "type": "dataset",
                "name": f"{data['name']} {name}",
                "description": f"{size}, from {data['source']}" if own else size,
            }
        ],
        "properties": _properties({"sha256Of": of}),
    }


def _environment(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What made and measured the model: interpreter, lock, packages. Not part of the bundle, hence `excluded`."""
    environment = cast("Mapping[str, Any]", predicate["environment"])
    found: list[dict[str, Any]] = []
    if "python" in environment:
        found.append({"bom-ref": "python", "type": "platform", "name": "Python", "version": environment["python"]})
    if environment.get("lock_sha256"):
        lock = {"bom-ref": "lock", "type": "file", "name": "requirements.lock"}
        found.append({**lock, "hashes": _hashes(environment["lock_sha256"])})
    found += [_package(name, *package) for name, package in sorted(_packages(environment).items())]
    return [{**item, "scope": "excluded"} for item in found]


def _packages(environment: Mapping[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Version and digests by name; attestations of before have no `installed`, only the packages that count most."""
    return {
        **{name: (version, []) for name, version in environment.get("packages", {}).items()},
        **{item["name"]: (item["version"], item.get("sha256", [])) for item in environment.get("installed", [])},
    }


def _package(name: str, version: str, digests: list[str]) -> dict[str, Any]:
    """One of the files with these digests was installed: so they are not the component's own, but its distributions'."""
    purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version, safe='')}"
    files = {
        "type": "distribution",
        "url": purl,
        "comment": "the files that requirements.lock allows",
        "hashes": [found for digest in digests for found in _hashes(digest)],
    }
    return {
        "bom-ref": f"package:{name}",
        "type": "library",
        "name": name,
        "version": version,
        "purl": purl,
        **({"externalReferences": [files]} if digests else {}),
    }


def _dependencies(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    made_from = [item["bom-ref"] for item in [*_data(predicate), *_environment(predicate)]]
    carried = ["model", *(item["bom-ref"] for item in _files(predicate))]
    return [
        {"ref": "bundle", "dependsOn": carried},
        {"ref": "model", "dependsOn": made_from},
        *({"ref": ref} for ref in [*carried[1:], *made_from]),
    ]


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: Mapping[str, Any]) -> list[dict[str, str]]:
    """Names in a space of our own, as the specification asks."""
    return [{"name": f"hallmark:{name}", "value": _text(value)} for name, value in values.items()]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
