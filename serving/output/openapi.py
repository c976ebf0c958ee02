"""openapi.json: every route, every field. `python -m serving.output.openapi docs/openapi.json` writes the committed copy."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.images.container import FORMATS
from bundle.layout import OPTIONAL, REQUIRED
from serving.exchange import DIGEST_HEADER, KINDS, MEDIA_TYPE, REQUEST_HEADER, VERSION_HEADER
from serving.input.bodies import FORM_TYPE
from serving.input.requests import ARRAY_TYPES, IMAGE_TYPES
from serving.output.page import ASSETS
from serving.output.robustness import EXPLAIN, ROBUSTNESS
from serving.output.schemas import COUNT, DIGEST, TEXT, VERSION, Json, obj, ref, schemas

#: What every route but the probes may answer, and what the routes that take a file may answer beside it.
ALWAYS = ("not-allowed", "failed")
REFUSED = (
    *("bad-form", "bad-query", "slow-body", "too-large", "wrong-type", "broken-file", "wrong-pixels", "wrong-shape"),
    "busy",
)


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
        "security": [{}, {"token": []}],
        "components": {"schemas": schemas(), "headers": _headers(), "securitySchemes": _security()},
    }


def _paths() -> Json:
    return {**_predictions(), **_documents(), **_pages(), **_platform()}


def _predictions() -> Json:
    image = _upload("image", f"a {FORMATS} file; its bytes decide which", IMAGE_TYPES)
    array = _upload("images", "a .npy file: uint8 (N, H, W, C), levels 0 to 255", ARRAY_TYPES)
    return {
        "/predict": _post("predict", "The class of one image.", image, "Prediction"),
        "/predict_batch": _post("predict_batch", "The class of each row.", array, "Predictions"),
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
    asset = _parameter("file", {"enum": sorted(ASSETS)}, "a file of the page")
    number = _parameter("number", COUNT, "a sample's number, from 0")
    return {
        "/": _get("page", "The page that a person reads.", _content("text/html", TEXT)),
        "/static/{file}": _get("asset", "Style and script of the page.", _file(), [asset]),
        "/samples/{number}.png": _get("sample", "A clean image of the evidence.", _content("image/png", {}), [number]),
    }


def _platform() -> Json:
    text = _content("text/plain", TEXT)
    return {
        "/healthz": _probe("healthz", "The process runs."),
        "/livez": _probe("livez", "The process runs."),
        "/readyz": _probe("readyz", "The self-check passed and the model is warm.", {"503": _answer("not yet", {})}),
        "/metrics": _get("metrics", "Metrics for Prometheus.", text),
    }


def _headers() -> Json:
    return {
        VERSION_HEADER: {"description": "the version that answered", "schema": VERSION},
        DIGEST_HEADER: {"description": "the SHA-256 of the model that answered", "schema": DIGEST},
        REQUEST_HEADER: {"description": "the request's own id, or a new one", "schema": TEXT},
        "Retry-After": {"description": "seconds after which to ask again", "schema": COUNT},
    }


def _security() -> Json:
    return {"token": {"type": "http", "scheme": "bearer", "description": "where the service was given a token"}}


def _upload(field: str, what: str, types: tuple[str, ...]) -> Json:
    """A request body that is one file: in a field of a form, or as it is."""
    file = {"type": "string", "format": "binary", "description": what}
    form = {"schema": obj({field: file}), "encoding": {field: {"contentType": ", ".join(types)}}}
    return {"required": True, "content": {FORM_TYPE: form, **{kind: {"schema": file} for kind in types}}}


def _post(name: str, summary: str, body: Json, answer: str) -> Json:
    measured = "also tells what was measured for the classes of the answer; any other parameter is refused"
    explain = {"name": EXPLAIN, "in": "query", "schema": {"enum": [ROBUSTNESS]}, "description": measured}
    operation = {
        "operationId": name,
        "summary": summary,
        "parameters": [explain],
        "requestBody": body,
        "responses": {"200": _answer("the answer", _json(answer)), **_problems(*REFUSED, *ALWAYS)},
    }
    return {"post": operation}


def _get(
    name: str, summary: str, content: Json, parameters: list[Json] | None = None, *, unchanged: bool = False
) -> Json:
    responses = {"200": _answer("the answer", content), **_problems(*ALWAYS)}
    operation: Json = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
        responses |= _problems("not-found")
    if unchanged:
        responses["304"] = _answer("the ETag of If-None-Match is still right", {})
    return {"get": operation}


def _probe(name: str, summary: str, refused: Json | None = None) -> Json:
    """A route that BentoML answers, without a token."""
    responses = {"200": _answer("yes", _content("text/plain", TEXT)), **(refused or {})}
    return {"get": {"operationId": name, "summary": summary, "security": [], "responses": responses}}


def _problems(*kinds: str) -> Json:
    """Responses by status; kinds of one status share one."""
    titles: dict[int, list[str]] = {}
    for status, title in sorted(KINDS[kind] for kind in kinds):
        titles.setdefault(status, []).append(title)
    content = _content(MEDIA_TYPE, ref("Problem"))
    return {
        str(status): _answer("; ".join(found), content, *(["Retry-After"] if status == 503 else []))
        for status, found in titles.items()
    }


def _answer(description: str, content: Json, *more: str) -> Json:
    names = (VERSION_HEADER, DIGEST_HEADER, REQUEST_HEADER, *more)
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"description": description, "headers": headers} | ({"content": content} if content else {})


def _parameter(name: str, kind: Json, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": kind, "description": description}


def _json(name: str) -> Json:
    return _content("application/json", ref(name))


def _file() -> Json:
    return _content("*/*", {"description": "the file"})


def _content(media_type: str, kind: Json) -> Json:
    return {media_type: {"schema": kind}}


def main(file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written.")]) -> None:
    """Writes the service's openapi.json, which names every route and field."""
    write_whole(file, (json.dumps(document(), indent=2, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    run_command(main)
