"""JSON Schemas of the two files that people write, params.yaml and a policy, for editors (yaml-language-server).

The commands read the files by their own rules, which say more; a schema completes names and marks what is misspelt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.gate.policy import METRICS, Metric
from bundle.gate.reading import ENDS, KEY_ID
from bundle.leakage import LEAKS
from bundle.table.outcomes import SETTINGS
from bundle.table.plan import TIERS
from pipeline.methods import method_class, method_names
from pipeline.networks import network_names
from pipeline.params.schema import Params

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: One schema by itself: it may refer to nothing outside it.
Schema = dict[str, Any]

FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}
AMOUNT: Schema = {"type": "number", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}
TEXT: Schema = {"type": "string", "minLength": 1}


def params_schema() -> Schema:
    """The schema of params.yaml: every section, and of `method` the keys of the named method.

    A section may be empty, as everything in it may be left out.
    """
    schema = Params.model_json_schema()
    sections: dict[str, Schema] = schema["$defs"]
    _name_networks(sections["NetworkSettings"])
    schema["properties"]["method"] = _method_schema(sections)
    for name, section in schema["properties"].items():
        if "$ref" in section and name != "data":
            schema["properties"][name] = {"anyOf": [{"$ref": section["$ref"]}, {"type": "null"}]}
    return {"$schema": DIALECT, **schema, "title": "Hallmark: params.yaml"}


def _name_networks(section: Schema) -> None:
    names: Schema = {"enum": [*network_names(), None]}
    for role in ("name", "guide"):
        section["properties"][role] |= {"anyOf": [names]}


def _method_schema(sections: dict[str, Schema]) -> Schema:
    """`name`, and by it the method's own keys, whose definitions are added to `sections`."""
    return {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": method_names(), "description": Params.model_fields["method"].description}},
        "allOf": [
            {
                "if": {"required": ["name"], "properties": {"name": {"const": name}}},
                "then": _own_keys(name, sections),
            }
            for name in method_names()
        ],
    }


def _own_keys(name: str, sections: dict[str, Schema]) -> Schema:
    """The keys of one method; none is required, since each has a default of the method or of the data."""
    method = method_class(name)
    own = method.Settings.model_json_schema(by_alias=True)
    sections |= own.get("$defs", {})
    keys: Schema = {"name": {"const": name, "description": method.title}, **own.get("properties", {})}
    return {"properties": keys, "additionalProperties": False}


def policy_schema() -> Schema:
    """The schema of a release policy: its rules, and for each metric the keys that name one number of it."""
    return {
        "$schema": DIALECT,
        "title": "Hallmark: a release policy",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "metrics": _one_or_more({"oneOf": [_threshold(name, metric) for name, metric in METRICS.items()]}),
            "tier": _said("the least tier of attacks", {"enum": list(TIERS)}),
            "flags": _said("flags at most, 0 for none", {"type": "integer", "minimum": 0}),
            "reliable": _said("no sanity check failed, and some were run", {"const": True}),
            "sample": _said("attacked images at least", COUNT),
            "selection": _said("the split on which the weights were chosen", {"const": "validation"}),
            "test_reads": _said("models at most that were measured on this test split", COUNT),
            "leakage": _leakage(),
            "not_worse": _one_or_more(_not_worse()),
            "signed_by": _signed_by(),
        },
    }


def _said(description: str, schema: Mapping[str, Any]) -> Schema:
    return {"description": description, **schema}


def _one_or_more(rule: Schema) -> Schema:
    """A list of rules; one alone may stand without its list."""
    return {"anyOf": [rule, {"type": "array", "items": rule, "minItems": 1}]}


def _threshold(name: str, metric: Metric) -> Schema:
    ends = {end: FRACTION if metric.fraction else AMOUNT for end in ("min", "max")}
    given = {key: _key(key) for key in metric.keys}
    # Reading takes all attacks where a policy names none.
    required = [key for key in metric.required if (name, key) != ("robust_accuracy", "attack")]
    return {
        "title": name,
        "type": "object",
        "required": ["metric", *required],
        "properties": {"metric": {"const": name}, **given, **ends, "at": {"enum": list(ENDS)}},
        "anyOf": [{"required": ["min"]}, {"required": ["max"]}],
        "additionalProperties": False,
    }


def _key(key: str) -> Schema:
    """What tells one number from another: a setting, a number, or a name of the attestation."""
    if key == "setting":
        return {"enum": list(SETTINGS)}
    return {} if key in ("radius", "eps_255", "quantile", "severity", "class") else TEXT


def _leakage() -> Schema:
    return {
        "description": "fractions of images at most",
        "type": "object",
        "minProperties": 1,
        "properties": {name: _said(sentence, FRACTION) for name, sentence in LEAKS.items()},
        "additionalProperties": False,
    }


def _not_worse() -> Schema:
    margin: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100}
    return {
        "type": "object",
        "required": ["margin"],
        "properties": {
            "margin": _said("points; the 95 % interval of the difference lies above -margin", margin),
            "metric": {"enum": ["robust_accuracy", "clean_accuracy"]},
            "setting": {"enum": list(SETTINGS)},
            "threat": {"type": ["string", "null"]},
            "attack": {"type": "string"},
            "first": _said("what the rule comes to where there is no release before", {"enum": ["pass", "fail"]}),
        },
        "additionalProperties": False,
    }


def _signed_by() -> Schema:
    description = f"files or folders of public keys, relative to the policy, or key ids ({KEY_ID.pattern})"
    return {"description": description, "anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
