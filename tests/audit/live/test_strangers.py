"""Models of strangers under `hallmark live`: other answers in a batch, files that may not run, memory."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import ModelProto

from bundle.layout import ATTESTATION, ENVELOPE, MODEL
from bundle.signatures import sign
from tests import models
from tests.audit.conftest import Masters
from tests.audit.live.conftest import Honest, run_json
from tests.audit.services import Change, Exchange, before, with_files, with_model
from tests.audit.tampering import rewrite


def serving_instead(folder: Path, honest: Honest) -> Change:
    """Hands out another bundle and says its digest everywhere."""
    hands_out, other = with_files(folder), open_digest(folder)

    def change(exchange: Exchange) -> Exchange:
        headers = {name: other if value == honest.bundle.digest else value for name, value in exchange.headers.items()}
        headers = {name: other[:12] if value == honest.bundle.version else value for name, value in headers.items()}
        body = exchange.body.replace(honest.bundle.digest.encode(), other.encode())
        body = body.replace(honest.bundle.version.encode(), other[:12].encode())
        return hands_out(replace(exchange, headers=headers, body=body))

    return change


def open_digest(folder: Path) -> str:
    return json.loads((folder / ATTESTATION).read_bytes())["subject"][0]["digest"]["sha256"]


def with_file(masters: Masters, folder: Path, model: ModelProto) -> Path:
    """The signed bundle with another model.onnx, made to fit and signed again."""
    shutil.copytree(masters.unsigned, folder)
    rewrite(folder, files={MODEL: model.SerializeToString()})
    sign_statement(folder, masters.other / "key.pem")
    return folder


def sign_statement(folder: Path, key: Path) -> None:
    """Signs what does not verify, as whoever made it can."""
    (folder / ENVELOPE).write_bytes(sign((folder / ATTESTATION).read_bytes(), key))


def test_a_model_that_answers_otherwise_alone_than_in_a_batch(honest: Honest, masters: Masters, tmp_path: Path) -> None:
    """Sent in arrays, every answer is the attested one; nobody sends arrays to /predict."""
    model = models.by_batch()
    folder = with_file(masters, tmp_path / "bundle", model)
    answers, hands_out = with_model(model.SerializeToString()), serving_instead(folder, honest)
    with before(honest.url, lambda exchange: hands_out(answers(exchange))) as url:
        report = run_json(url, "--as", "npy", "--rows", 10)
    found = report["aloneAndInBatch"]
    assert report["contradictedRows"] == 0 and report["outcome"] == "contradicted"
    assert found["asked"] == found["apart"] >= 64
    said = (
        f"contradicted: model.onnx answers {found['apart']} of {found['asked']} images otherwise alone than in a batch"
    )
    assert any(sentence.startswith(said) for sentence in report["contradictions"])


def test_an_honest_model_answers_alone_as_in_a_batch(honest: Honest) -> None:
    found = run_json(honest.url, "--as", "npy", "--rows", 3)["aloneAndInBatch"]
    assert found["asked"] > 20 and found["apart"] == 0


@pytest.mark.parametrize("kind", ["external", "endless", "constant"])
def test_a_strangers_model_file_is_refused_before_it_runs(
    honest: Honest, masters: Masters, kind: str, tmp_path: Path
) -> None:
    made, said = {
        "external": (models.external()[0], "keeps tensor 'weight' in another file, which no digest covers"),
        "endless": (models.endless(), "operator 'Loop' ('for ever') has a graph inside, which may run without end"),
        "constant": (models.constant(10**11), "makes a tensor of 100000000000 elements or more"),
    }[kind]
    folder = with_file(masters, tmp_path / "bundle", made)
    with before(honest.url, serving_instead(folder, honest)) as url:
        assert said in run_json(url)["reason"]


def test_a_strangers_model_may_not_take_all_memory(honest: Honest, masters: Masters, tmp_path: Path) -> None:
    """No shape in its file is large: ten GiB are made by broadcasting."""
    folder = with_file(masters, tmp_path / "bundle", models.square(50_000))
    with before(honest.url, serving_instead(folder, honest)) as url:
        assert run_json(url)["reason"] == "model.onnx: takes more than 4 GiB of memory"
