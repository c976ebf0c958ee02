"""The JSON documents: what they say, and that openapi.json names every field of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from bundle.bundle import open_bundle
from bundle.layout import ATTESTATION, ENVELOPE, REQUIRED
from bundle.signatures import generate_key, sign
from bundle.table.threats import Threat
from serving.exchange import KINDS, ModelHeaders
from serving.input.requests import ARRAY_TYPES, IMAGE_TYPES
from serving.model.batcher import predictions, softmax
from serving.output.openapi import document
from serving.output.versions import Versions
from serving.routes import create_app
from serving.served import Served, prepare
from serving.settings import Settings
from tests.bundles import make_bundle
from tests.serving.conftest import REPOSITORY
from tests.serving.pictures import digit, npy, png


def test_the_committed_openapi_is_the_served_one(client: TestClient) -> None:
    """Write it again with `python -m serving.output.openapi docs/openapi.json`."""
    committed = json.loads((REPOSITORY / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert client.get("/openapi.json").json() == committed == document()


def test_openapi_has_every_route_and_no_other(served: Served) -> None:
    routes = {route.path.replace(":int", "") for route in create_app().routes}  # type: ignore[attr-defined]
    assert routes == set(document()["paths"])


def test_openapi_declares_bodies_and_statuses_of_the_predictions() -> None:
    """Every kind of problem that serving/exchange.py knows for such a request, and every type that is taken."""
    methods = {path: set(item) for path, item in document()["paths"].items()}
    assert {path for path, names in methods.items() if names == {"post"}} == {"/predict", "/predict_batch"}
    assert set.union(*methods.values()) == {"get", "post"}
    for path, field, types in (("/predict", "image", IMAGE_TYPES), ("/predict_batch", "images", ARRAY_TYPES)):
        operation = document()["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) == {"multipart/form-data", *types}
        form = operation["requestBody"]["content"]["multipart/form-data"]
        assert set(form["schema"]["properties"]) == {field} == set(form["encoding"])
        elsewhere = {"not-found", "not-shared", "wrong-method"}
        statuses = {str(status) for kind, (status, _) in KINDS.items() if kind not in elsewhere}
        assert set(operation["responses"]) == {"200", *statuses}
        assert [item["name"] for item in operation["parameters"]] == ["explain"]


def check_schema(name: str, answer: Any) -> None:
    """Asserts that an answer is what openapi.json says of it."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    Draft202012Validator.check_schema(schema)
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(answer)]
    assert not errors


def test_every_answer_meets_its_schema(client: TestClient, served: Served) -> None:
    """The schemas name every field and allow no other."""
    row = digit()[None, ..., None]
    check_schema("Prediction", client.post("/predict", files={"image": png(digit())}).json())
    check_schema("Predictions", client.post("/predict_batch", files={"images": npy(row)}).json())
    check_schema("Problem", client.get("/nothing").json())
    for path, name in (
        ("/robustness", "Robustness"),
        ("/attestation", "Attestation"),
        ("/versions", "Versions"),
        (f"/versions/{served.version}", "Version"),
    ):
        check_schema(name, client.get(path).json())


def test_answers_about_l2_and_l1_meet_the_same_schemas(tmp_path: Path) -> None:
    balls = (Threat("l2", 0.5), Threat("l1", 2.0))
    bundle = make_bundle(tmp_path / "bundle", eps=(16,), others=balls, trained=balls[0])
    app = create_app()
    app.state.served = prepare(Settings(bundle=bundle, releases=tmp_path / "none", threads=1, device="cpu"))
    with TestClient(ModelHeaders(app, app.state), raise_server_exceptions=False) as client:
        for path, name in (("/robustness", "Robustness"), ("/attestation", "Attestation"), ("/versions", "Versions")):
            check_schema(name, client.get(path).json())
        assert client.get("/versions").json()["versions"][0]["headline"]["robust"]["eps"] == 0.5
        assert "l2 0.5, all attacks" in client.get("/").text


def test_softmax_adds_up_to_one_without_overflow() -> None:
    found = softmax(np.array([[1000.0, 999.0], [-1000.0, 0.0]], np.float32))
    expected = 1 / (1 + np.exp(-1))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[expected, 1 - expected], [0, 1]], atol=1e-12)
    assert predictions(np.array([[0.0, 3.0, 3.0]], np.float32), ["a", "b", "c"])[0]["class"] == "b"


def test_robustness_repeats_the_attestation_and_says_what_bounds_are(client: TestClient, folders: Path) -> None:
    predicate = open_bundle(folders / "bundle").predicate
    answer = client.get("/robustness").json()
    assert answer["clean"] + answer["robust"] == sorted(predicate["claims"], key=lambda item: item["metric"])
    assert answer["bounds"] == predicate["bounds"] and answer["sanity"] == predicate["sanity"]
    attested = {"provider": "CPUExecutionProvider", "threads": 2}
    found = {"rows": 64, "moved": 0, "allowed": 0, "provider": "CPUExecutionProvider", "threads": 1, "fell_back": False}
    assert answer["self_check"] == {**found, "attested": attested}
    assert answer["trust"] == {"signed_by": None, "policy": None}
    assert {item["bound"] for item in answer["robust"] + answer["bounds"]} <= set(answer["meaning"])


def test_attestation_is_the_statement_whose_bytes_the_evidence_has(client: TestClient, folders: Path) -> None:
    answer = client.get("/attestation").json()
    content = (folders / "bundle" / ATTESTATION).read_bytes()
    assert answer["statement"] == json.loads(content) and answer["envelope"] is None
    assert answer["statement_sha256"] == hashlib.sha256(content).hexdigest()


def test_a_signed_bundle_shows_its_envelope_and_names_its_key(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    key = generate_key(tmp_path / "keys")
    envelope = sign((bundle / ATTESTATION).read_bytes(), tmp_path / "keys" / "key.pem")
    (bundle / ENVELOPE).write_bytes(envelope)
    served = prepare(Settings(bundle=bundle, releases=tmp_path / "none", threads=1, device="cpu"))
    assert served.envelope == json.loads(envelope)
    assert served.evidence[ENVELOPE].content == envelope
    assert served.versions.all()[0]["signed_by"] == [key]


def test_versions_lists_what_verifies_and_why_the_rest_does_not(client: TestClient, served: Served) -> None:
    mine, sound, tampered = client.get("/versions").json()["versions"]
    assert (mine["served"], mine["version"], mine["folder"]) == (True, served.version, "bundle")
    assert (sound["served"], sound["verified"], sound["folder"]) == (False, True, "sound")
    assert sound["headline"]["robust"]["served"]["sampleSize"] == 60
    assert tampered["verified"] is False and tampered["refusal"].startswith("model.onnx: SHA-256 is ")
    both = [client.get(f"/versions/{name}").json() for name in (sound["version"], sound["digest"])]
    assert both[0] == both[1] and both[0]["bundles"] == [sound]
    assert client.get("/versions/0123456789ab").status_code == 404


def test_a_release_is_verified_again_when_it_changes(tmp_path: Path, folders: Path) -> None:
    release = make_bundle(tmp_path / "releases" / "one", noise=0.1)
    versions = Versions(open_bundle(folders / "bundle"), tmp_path / "releases")
    assert [entry["verified"] for entry in versions.all()] == [True, True]
    (release / "extra").write_text("")
    assert [entry["verified"] for entry in versions.all()] == [True, False]
    assert str(tmp_path) not in versions.all()[1]["refusal"]


def test_evidence_is_byte_for_byte_and_its_etag_is_its_digest(client: TestClient, folders: Path) -> None:
    for name in REQUIRED:
        response = client.get(f"/evidence/{name}")
        content = (folders / "bundle" / name).read_bytes()
        assert response.content == content
        assert response.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        unchanged = client.get(f"/evidence/{name}", headers={"If-None-Match": response.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize("name", ["report.html", "outcomes.parquet"])
def test_evidence_is_what_was_verified_even_when_the_disk_changes(tmp_path: Path, name: str) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    verified = (bundle / name).read_bytes()
    served = prepare(Settings(bundle=bundle, releases=tmp_path, threads=1, device="cpu"))
    (bundle / name).write_bytes(b"changed")
    assert served.evidence[name].content == verified
