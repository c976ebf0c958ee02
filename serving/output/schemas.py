"""JSON Schemas of every answer. What comes from the attestation is described by the attestation's own schema."""

from __future__ import annotations

from typing import Any

from bundle.attestation import CLAIMED, PARTS, REPEATED, schema
from bundle.numbers.claims import ALL_ATTACKS
from serving.exchange import KINDS
from serving.output.robustness import MEANING

Json = dict[str, Any]

VERSION: Json = {
    "type": "string",
    "pattern": "^[0-9a-f]{12}$",
    "description": "first 12 digits of the SHA-256 of model.onnx",
}
DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of model.onnx"}
SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
TEXT: Json = {"type": "string"}
IDENTITY: Json = {"model_version": VERSION, "model_digest": DIGEST}


def obj(properties: Json, optional: Json | None = None) -> Json:
    """An object with exactly these properties; those that are optional may be left out."""
    every = properties | (optional or {})
    return {"type": "object", "properties": every, "required": list(properties), "additionalProperties": False}


def ref(name: str) -> Json:
    """A schema of components."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Json:
    """Every schema by name, as OpenAPI's components hold them."""
    return {
        **_predictions(),
        "Robustness": _robustness(),
        "Claim": _attested("claims")["items"],
        "Bound": _attested("bounds")["items"],
        **_attestation(),
        **_versions(),
        "Problem": _problem(),
    }


def _attested(*names: str) -> Json:
    """The attestation's own schema of a part of the predicate."""
    found = schema()["properties"]["predicate"]
    for name in names:
        found = found["properties"][name]
    return found


def _rows(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(kind: Json) -> Json:
    return {"oneOf": [kind, {"type": "null"}]}


def _predictions() -> Json:
    answer = {
        "class": {"type": "string", "description": "name of the class with the largest logit"},
        "label": {**COUNT, "description": "number of that class"},
        "probabilities": {
            "type": "object",
            "description": "softmax of the logits, in float64, by class name; a belief, not a robustness",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        },
    }
    resized = {
        "type": "boolean",
        "description": "whether the file had another size and was resized by the bundle's rule",
    }
    by_class = {
        "type": "object",
        "description": "by class name, for each class that occurs; only with explain=robustness",
        "additionalProperties": ref("Explanation"),
    }
    return {
        "Prediction": obj({**answer, "resized": resized, **IDENTITY}, {"robustness": ref("Explanation")}),
        "Predictions": obj({"predictions": _rows(obj(answer)), **IDENTITY}, {"explanations": by_class}),
        "Explanation": _explanation(),
    }


def _explanation() -> Json:
    accuracy = _attested("perClass")["items"]["properties"]
    measured = {name: accuracy[name] for name in ("value", "correct", "sampleSize", "interval", "confidence")}
    ball = {"threat": TEXT, "norm": TEXT, "attack": {"const": ALL_ATTACKS}, "bound": {"const": "upper"}}
    worst = {"type": "boolean", "description": "whether no other class is right less often under this threat"}
    threats = [obj({**ball, radius: NUMBER, **measured, "worst": worst}) for radius in ("eps_255", "eps")]
    return {
        **obj(
            {
                "class": TEXT,
                "label": COUNT,
                "setting": {"const": "served"},
                "sampleSize": {**COUNT, "description": "measured test images whose label is this class"},
                "clean": _or_null(obj({"bound": {"const": "exact"}, **measured})),
                "threats": _rows({"oneOf": threats}),
                "reliable": _attested("reliable"),
                "sentence": TEXT,
            }
        ),
        "description": "Averages over the test images whose label is the predicted class; nothing about this one image.",
    }


def _robustness() -> Json:
    return obj(
        {
            **IDENTITY,
            **{field: obj({name: _attested(field, name) for name in names}) for field, names in PARTS.items()},
            **{field: _rows(ref("Claim")) for field in CLAIMED},
            **{field: _attested(name) for field, name in REPEATED.items()},
            "bounds": _rows(ref("Bound")),
            "main_threats": _attested("mainThreats"),
            "self_check": _self_check(),
            "trust": _trust(),
            "meaning": obj({name: {"const": text} for name, text in MEANING.items()}),
        }
    )


def _attestation() -> Json:
    envelope = {"type": ["object", "null"], "description": "the DSSE envelope; null where the bundle is unsigned"}
    digest = {**SHA256, "description": "of the exact bytes, which /evidence/attestation.json gives"}
    return {
        "Statement": {name: value for name, value in schema().items() if name != "$schema"},
        "Attestation": obj(
            {"statement": ref("Statement"), "statement_sha256": digest, "envelope": envelope, **IDENTITY}
        ),
    }


def _versions() -> Json:
    key = {**SHA256, "description": "id of a key that the envelope names; whether to trust it is not judged here"}
    bundle = {
        "folder": {**TEXT, "description": "the bundle's folder"},
        "served": {"type": "boolean", "description": "whether it is this bundle's model that answers"},
        "verified": {"const": True},
        "version": VERSION,
        "digest": DIGEST,
        "attestation_sha256": SHA256,
        "signed_by": _rows(key),
        "signed_at": _or_null(
            {"type": "string", "description": "when, by the signer's own clock, in UTC; null: not said"}
        ),
        "headline": ref("Headline"),
        "main_threats": _attested("mainThreats"),
        "claims": _rows(ref("Claim")),
        "bounds": _rows(ref("Bound")),
    }
    refused = {"folder": TEXT, "served": {"const": False}, "verified": {"const": False}, "refusal": TEXT}
    return {
        "Share": obj(_share()),
        "Headline": _headline(),
        "Bundle": obj(bundle),
        "Refused": obj(refused),
        "Versions": obj({"versions": _rows({"oneOf": [ref("Bundle"), ref("Refused")]}), **IDENTITY}),
        "Version": obj({"version": VERSION, "digest": DIGEST, "bundles": _rows(ref("Bundle")), **IDENTITY}),
    }


def _share() -> Json:
    interval = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
    return {"value": NUMBER, "correct": COUNT, "sampleSize": {"type": "integer", "minimum": 1}, "interval": interval}


def _headline() -> Json:
    settings = {"reference": _or_null(ref("Share")), "served": _or_null(ref("Share"))}
    return obj(
        {
            "version": VERSION,
            "digest": DIGEST,
            "data": TEXT,
            "method": TEXT,
            "n": COUNT,
            "tier": _attested("tier"),
            "reliable": _attested("reliable"),
            "clean": obj(settings),
            "robust": {"oneOf": [obj({"threat": TEXT, radius: NUMBER, **settings}) for radius in ("eps_255", "eps")]},
            "certified": _or_null(obj({"classifier": TEXT, "radius": NUMBER, **_share()})),
            "flags": _rows(TEXT),
        }
    )


def _self_check() -> Json:
    counted = {"rows": COUNT, "moved": COUNT, "allowed": COUNT}
    attested = obj({"provider": _or_null(TEXT), "threads": _or_null(COUNT)})
    return obj({**counted, "provider": TEXT, "threads": COUNT, "fell_back": {"type": "boolean"}, "attested": attested})


def _trust() -> Json:
    signed = obj({"name": TEXT, "key_id": SHA256})
    return obj({"signed_by": _or_null(signed), "policy": _or_null(obj({"sha256": SHA256, "rules": COUNT}))})


def _problem() -> Json:
    return obj(
        {
            "type": {"enum": [f"urn:hallmark:problem:{kind}" for kind in KINDS]},
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "one sentence: what is wrong, where, what would be right"},
        }
    )
