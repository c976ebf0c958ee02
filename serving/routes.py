"""The routes, as one Starlette app that BentoML mounts."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bundle.attestation import model_version
from bundle.layout import ATTESTATION, REPORT
from serving.exchange import Problem, answer_failure, answer_problem, answer_routing_error, exchange_of
from serving.input.requests import picture_of, rows_of
from serving.output.openapi import document
from serving.output.page import ASSETS, PAGE_POLICY, REPORT_POLICY
from serving.output.robustness import explanations, wants_robustness
from serving.served import Served

#: BentoML answers these before the mounted app is asked.
PLATFORM = ("/healthz", "/livez", "/readyz")


def create_app() -> Starlette:
    """The app; `app.state` must have a Served as `served`, and the Metrics as `metrics`, before the first request."""
    app = Starlette(
        routes=[
            Route("/", show_page),
            Route("/static/{file}", send_asset),
            Route("/samples/{number}.png", send_sample),
            Route("/openapi.json", show_openapi),
            Route("/predict", predict, methods=["POST"]),
            Route("/predict_batch", predict_batch, methods=["POST"]),
            Route("/robustness", show_robustness),
            Route("/attestation", show_attestation),
            Route("/versions", list_versions),
            Route("/versions/{version}", show_version),
            Route("/evidence/{file}", send_evidence),
            Route("/metrics", show_metrics),
            *(Route(path, refuse_method, methods=["POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) for path in PLATFORM),
        ],
        exception_handlers={Problem: answer_problem, HTTPException: answer_routing_error, Exception: answer_failure},
    )
    app.router.redirect_slashes = False  # a redirect would name a route that the client did not ask for
    return app


def _served(request: Request) -> Served:
    return request.app.state.served


def _identity(served: Served) -> dict[str, Any]:
    return {"model_version": served.version, "model_digest": served.digest}


async def _answers(request: Request, rows: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The answers for valid rows, noted for metrics and access log."""
    exchange = exchange_of(request.scope)
    exchange.rows = len(rows)
    answers = await _served(request).predict(rows)
    exchange.predicted.update(answer["class"] for answer in answers)
    return answers


async def predict(request: Request) -> Response:
    """POST /predict: one image file."""
    served, explained = _served(request), wants_robustness(request.query_params)
    with served.admission.room() as room:
        picture = await picture_of(request, served.shape, served.settings, served.resize, room)
        [answer] = await _answers(request, picture.pixels[None])
    name = answer["class"]
    extra = {"robustness": explanations(served.statement["predicate"], [name])[name]} if explained else {}
    return JSONResponse({**answer, "resized": picture.resized, **extra, **_identity(served)})


async def predict_batch(request: Request) -> Response:
    """POST /predict_batch: rows in a .npy file."""
    served, explained = _served(request), wants_robustness(request.query_params)
    with served.admission.room() as room:
        answers = await _answers(request, await rows_of(request, served.shape, served.settings, room))
    occurring = dict.fromkeys(answer["class"] for answer in answers)
    extra = {"explanations": explanations(served.statement["predicate"], occurring)} if explained else {}
    return JSONResponse({"predictions": answers, **extra, **_identity(served)})


async def show_robustness(request: Request) -> Response:
    """GET /robustness."""
    return JSONResponse(_served(request).robustness)


async def show_attestation(request: Request) -> Response:
    """GET /attestation: the statement and its signature as JSON; /evidence has the exact bytes."""
    served = _served(request)
    return JSONResponse(
        {
            "statement": served.statement,
            "statement_sha256": served.evidence[ATTESTATION].sha256,
            "envelope": served.envelope,
            **_identity(served),
        }
    )


async def list_versions(request: Request) -> Response:
    """GET /versions."""
    served = _served(request)
    return JSONResponse({"versions": await asyncio.to_thread(served.versions.all), **_identity(served)})


async def show_version(request: Request) -> Response:
    """GET /versions/{version}."""
    served, version = _served(request), request.path_params["version"]
    bundles = await asyncio.to_thread(served.versions.find, version)
    if not bundles:
        raise Problem("not-found", f"{version}: is no version at hand; GET /versions lists them.")
    digest = bundles[0]["digest"]
    return JSONResponse({"version": model_version(digest), "digest": digest, "bundles": bundles, **_identity(served)})


async def send_evidence(request: Request) -> Response:
    """GET /evidence/{file}: a file of the bundle, exactly as it was verified."""
    served, name = _served(request), request.path_params["file"]
    file = served.evidence.get(name)
    if file is None:
        raise Problem("not-found", f"{name}: is no file of this bundle; it has {', '.join(served.evidence)}.")
    headers = {"ETag": f'"{file.sha256}"'}
    if name == REPORT:
        headers["Content-Security-Policy"] = REPORT_POLICY
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


async def show_openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(document())


async def show_page(request: Request) -> Response:
    """GET /: the page that a person reads."""
    served = _served(request)
    page = await asyncio.to_thread(lambda: served.page.render(served.robustness, served.versions.all()))
    return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY})


async def send_asset(request: Request) -> Response:
    """GET /static/{file}: the page's style and script."""
    name = request.path_params["file"]
    if name not in ASSETS:
        raise Problem("not-found", f"{name}: is no file of the page.")
    content, media_type = ASSETS[name]
    return Response(content, media_type=media_type)


async def send_sample(request: Request) -> Response:
    """GET /samples/{number}.png: a clean image of the evidence, to try."""
    samples, asked = _served(request).page.samples, request.path_params["number"]
    for number, sample in enumerate(samples):
        if asked == str(number):
            return Response(sample.png, media_type="image/png")
    raise Problem("not-found", f"{asked}: is no sample; there are {len(samples)}, from 0.")


async def show_metrics(request: Request) -> Response:
    """GET /metrics: in Prometheus' text format."""
    queued = _served(request).batcher.queued
    content = await asyncio.to_thread(request.app.state.metrics.text, queued)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def refuse_method(request: Request) -> Response:
    """Another method than GET on a route that BentoML answers."""
    raise HTTPException(405, headers={"Allow": "GET, HEAD"})
