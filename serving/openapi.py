"""openapi.json: every route, every field. `python -m serving.openapi docs/openapi.json` writes the committed copy."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

from bundle.digests import write_whole
from bundle.layout import OPTIONAL, REQUIRED
from serving.headers import DIGEST_HEADER, VERSION_HEADER
from serving.problems import KINDS, MEDIA_TYPE
from serving.schemas import COUNT, DIGEST, TEXT, VERSION, Json, obj, ref, schemas


@cache
def document() -> Json:
    """The OpenAPI 3.1 document, the same for every bundle."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hallmark",
            "version": "1",
            "description": "Answers of a robust image classifier, and its measured robustness. Every answer carries "
            f"{VERSION_HEADER} and {DIGEST_HEADER}; every refusal is a problem document.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {"schemas": schemas(), "headers": _headers()},
    }


def _paths() -> Json:
    return {**_predictions(), **_documents(), **_pages(), **_platform()}


def _predictions() -> Json:
    problems = ["bad-form", "slow-body", "too-large", "wrong-type", "broken-file", "failed", "busy"]
    array = "a .npy file: uint8 (N, H, W, C), levels 0 to 255"
    return {
        "/predict": _post("predict", "The class of one image.", "image", "a PNG or JPEG file", "Prediction", problems),
        "/predict_batch": _post("predict_batch", "The class of each row.", "images", array, "Predictions", problems),
    }


def _documents() -> Json:
    version = _parameter("version", TEXT, "a version's 12 digits, or the whole SHA-256 of its model")
    file = _parameter("file", {"enum": [*REQUIRED, *OPTIONAL]}, "a file of the bundle")
    bytewise = "A file of the bundle, byte for byte; its ETag is its SHA-256."
    return {
        "/robustness": _get("robustness", "The measured robustness of the model that answers.", _json("Robustness")),
        "/attestation": _get("attestation", "The attestation and its signature.", _json("Attestation")),
        "/versions": _get("versions", "Every version at hand.", _json("Versions")),
        "/versions/{version}": _get("version", "The bundles of one version.", _json("Version"), [version]),
        "/evidence/{file}": _get("evidence", bytewise, _file(), [file], unchanged=True),
        "/openapi.json": _get("openapi", "This document.", _content("application/json", {"type": "object"})),
    }


def _pages() -> Json:
    asset = _parameter("file", {"enum": ["page.css", "page.js", "report.css"]}, "a file of the page")
    number = _parameter("number", COUNT, "a sample's number, from 0")
    return {
        "/": _get("page", "The page that a person reads.", _content("text/html", TEXT)),
        "/static/{file}": _get("asset", "Style and script of the page.", _file(), [asset]),
        "/samples/{number}.png": _get("sample", "A clean image of the evidence.", _content("image/png", {}), [number]),
    }


def _platform() -> Json:
    meanings = {
        "healthz": "The process runs.",
        "livez": "The process runs.",
        "readyz": "The self-check passed and the model is warm.",
        "metrics": "Metrics for Prometheus.",
    }
    return {f"/{name}": _get(name, meaning, _content("text/plain", TEXT)) for name, meaning in meanings.items()}


def _headers() -> Json:
    return {
        VERSION_HEADER: {"description": "the version that answered", "schema": VERSION},
        DIGEST_HEADER: {"description": "the SHA-256 of the model that answered", "schema": DIGEST},
    }


def _post(name: str, summary: str, field: str, what: str, answer: str, problems: list[str]) -> Json:
    form = obj({field: {"type": "string", "format": "binary", "description": what}})
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "responses": {"200": _answer("the answer", _json(answer)), **_problems(problems)},
    }


def _get(
    name: str, summary: str, content: Json, parameters: list[Json] | None = None, *, unchanged: bool = False
) -> Json:
    operation: Json = {"operationId": name, "summary": summary, "responses": {"200": _answer("the answer", content)}}
    if parameters:
        operation["parameters"] = parameters
        operation["responses"] |= _problems(["not-found"])
    if unchanged:
        operation["responses"]["304"] = _answer("the ETag of If-None-Match is still right", {})
    return {"get": operation}


def _problems(kinds: list[str]) -> Json:
    """Responses by status; kinds of one status share one."""
    found = {kind: KINDS[kind] for kind in kinds}
    content = _content(MEDIA_TYPE, ref("Problem"))
    return {str(status): _answer(title, content) for status, title in found.values()}


def _answer(description: str, content: Json) -> Json:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in (VERSION_HEADER, DIGEST_HEADER)}
    return {"description": description, "headers": headers} | ({"content": content} if content else {})


def _parameter(name: str, kind: Json, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": kind, "description": description}


def _json(name: str) -> Json:
    return _content("application/json", ref(name))


def _file() -> Json:
    return _content("*/*", {"description": "the file"})


def _content(media_type: str, kind: Json) -> Json:
    return {media_type: {"schema": kind}}


if __name__ == "__main__":
    write_whole(Path(sys.argv[1]), (json.dumps(document(), indent=2, ensure_ascii=False) + "\n").encode())
