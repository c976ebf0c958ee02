"""`hallmark live`: an honest service is not contradicted, dishonest ones are, each for what it does."""

from __future__ import annotations

import builtins
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audit.private.withholding import make_private
from audit.releasing import sign_bundle
from bundle.bundle import open_bundle
from bundle.layout import ATTESTATION, OUTCOMES
from tests.audit.conftest import Masters
from tests.audit.live.conftest import WAYS, Honest, run, run_json
from tests.audit.services import Exchange, before, with_files, with_model
from tests.audit.tampering import rewrite, unbreak
from tests.audit.test_page import LIVE, commands, indented, sections
from tests.bundles import digits, make_bundle
from tests.serving.conftest import running_service


@pytest.mark.parametrize("way", [*WAYS, "both"])
def test_an_honest_service_is_not_contradicted(honest: Honest, masters: Masters, way: str) -> None:
    report = run_json(honest.url, "--as", way, "--data", honest.data, "--trust", masters.trusted / "key.pub")
    assert (report["outcome"], report["contradictions"]) == ("not contradicted", [])
    assert report["signature"]["state"] == "signed"
    ways = WAYS if way == "both" else [way]
    sets = list(honest.bundle.images)
    names = [*sets, *(f"{name}, one level changed" for name in sets), "fresh", "noisy", "mixed", "noise"]
    assert [(item["name"], item["way"]) for item in report["checks"]] == list(itertools.product(names, ways))
    assert all((item["asked"], item["contradicted"], item["close"]) == (60, 0, 0) for item in report["checks"])
    assert report["rows"] == 60 * len(names) * len(ways)
    assert report["sentence"] == f"not contradicted in {report['rows']} rows"
    for found in report["accuracies"]:
        claim = next(
            item
            for item in honest.bundle.predicate["claims"]
            if (item["metric"], item["setting"]) == (found["metric"], "served")
            and (item.get("threat"), item.get("attack", "all")) == (found["threat"], "all")
        )
        assert found["answered"] == found["attested"] == {name: claim[name] for name in found["answered"]}
    assert len(report["accuracies"]) == 3 * len(ways)


def test_the_words_for_people(honest: Honest) -> None:
    result = run(honest.url, "--as", "npy", "--rows", 5, "--square", 60)
    assert result.exit_code == 0, result.stderr
    assert "not contradicted in " in result.stdout.splitlines()[0]
    assert "not checked (see --trust)" in result.stdout
    assert "Square, 60 queries in linf-32: broke " in result.stdout
    assert "Not checked\n- Clean images outside the evidence: --data names a folder" in result.stdout
    assert "What this does not show" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("way", WAYS)
def test_another_model_under_the_same_attestation(honest: Honest, masters: Masters, way: str) -> None:
    with before(honest.url, with_model(open_bundle(masters.second).model)) as url:
        report = run_json(url, "--as", way)
    assert report["outcome"] == "contradicted" and report["sentence"].startswith("contradicted in ")
    found = {item["name"]: item["contradicted"] for item in report["checks"]}
    assert found["linf-16/pgd-10"] and found["mixed"] > 5


def test_a_model_that_only_believes_otherwise_is_another_one(honest: Honest, tmp_path: Path) -> None:
    """The classes are the same in nearly every row; the probabilities tell."""
    close = open_bundle(make_bundle(tmp_path / "close", noise=0.001))
    assert close.digest != honest.bundle.digest
    with before(honest.url, with_model(close.model)) as url:
        report = run_json(url, "--as", "npy")
    found = {item["name"]: item["contradicted"] for item in report["checks"]}
    assert found["mixed"] > 50 and found["clean"] <= 1


def test_a_changed_attestation_is_refused(honest: Honest, masters: Masters, tmp_path: Path) -> None:
    """Changed against its table; rewritten whole, under the old signature; about another model."""
    better = shutil.copytree(masters.unsigned, tmp_path / "better")
    rewrite(better, predicate=lambda item: item["claims"][-1].update(value=1.0))
    with before(honest.url, with_files(better)) as url:
        reason = run_json(url)["reason"]
        assert "robust_accuracy" in reason and "is not what the outcome table gives" in reason
    whole = shutil.copytree(masters.unsigned, tmp_path / "whole")
    rewrite(whole, outcomes=unbreak("served/linf-32/margin", slice(None)))
    with before(honest.url, with_files(whole)) as url:
        assert "attestation.dsse.json" in run_json(url)["reason"]
    with before(honest.url, with_files(masters.second)) as url:
        assert f"is about model {open_bundle(masters.second).version}" in run_json(url)["reason"]


def test_an_attestation_rewritten_with_its_evidence_is_contradicted_by_its_rows(
    honest: Honest, masters: Masters, tmp_path: Path
) -> None:
    """And signed again: the key is the auditor's to know, the rows are not."""
    whole = shutil.copytree(masters.unsigned, tmp_path / "whole")
    broken = int(open_bundle(whole).outcomes["served/linf-32/margin/broken"].sum())
    rewrite(whole, outcomes=unbreak("served/linf-32/margin", slice(None)))
    sign_bundle(whole, masters.other / "key.pem")
    with before(honest.url, with_files(whole)) as url:
        report = run_json(url, "--as", "npy")
        assert "trust" in run_json(url, "--trust", masters.trusted / "key.pub")["reason"]
    assert report["outcome"] == "contradicted"
    found = {item["name"]: item["contradicted"] for item in report["checks"] if item["contradicted"]}
    assert found == {"linf-32/margin": broken} and broken > 20
    assert any("/attestation: its statement" in sentence for sentence in report["contradictions"])
    assert any("/robustness: robust is" in sentence for sentence in report["contradictions"])


def without_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if ONNX Runtime were not installed."""
    load = builtins.__import__

    def blocked(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "bundle.served.runtime":
            raise ImportError(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", blocked)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("runtime", [True, False])
def test_a_look_up_of_the_evidence(
    honest: Honest, masters: Masters, way: str, runtime: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --data its accuracy gives it away; with ONNX Runtime every image that it has not seen does."""
    known = {image.tobytes() for images in honest.bundle.images.values() for image in images}
    poor = open_bundle(make_bundle(honest.data.parent / f"poor-{way}-{runtime}", noise=3.0)).model
    if not runtime:
        without_runtime(monkeypatch)
    with before(honest.url, with_model(poor, known)) as url:
        report = run_json(url, "--as", way, "--data", honest.data)
        alone = run_json(url, "--as", way)
    exact = [item for item in report["checks"] if item["against"] == "attestation"]
    assert sum(item["asked"] for item in exact) == 300 and not any(item["contradicted"] for item in exact)
    assert report["outcome"] == "contradicted"
    assert any("accuracy on fresh images" in sentence for sentence in report["contradictions"])
    assert (alone["outcome"] == "contradicted") == runtime
    assert any("ONNX Runtime is not installed" in sentence for sentence in report["notChecked"]) == (not runtime)
    [stable] = report["oneLevelChanged"]
    assert stable["asked"] == 300 and stable["same"] < 200


def test_answers_in_the_name_of_another_model_are_counted(honest: Honest, masters: Masters) -> None:
    other, number = open_bundle(masters.second).digest, itertools.count()

    def change(exchange: Exchange) -> Exchange:
        if exchange.method != "POST" or next(number) % 10:
            return exchange
        return replace(exchange, headers={**exchange.headers, "x-model-digest": other})

    with before(honest.url, change) as url:
        report = run_json(url, "--as", "png", "--rows", 5)
    assert report["outcome"] == "contradicted" and report["contradictedRows"] == 0
    assert report["otherModel"] == -(-next(number) // 10)
    said = f"contradicted: {report['otherModel']} of {report['answers']} answers name another model"
    assert report["contradictions"][0].startswith(said)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/robustness", lambda item: item["robust"][0].update(value=0.99)),
        ("/robustness", lambda item: item.pop("bounds")),
        ("/robustness", lambda item: item["method"].update(name="another")),
        ("/attestation", lambda item: item.update(statement_sha256="0" * 64)),
        ("/versions", lambda item: item["versions"][0]["claims"].pop()),
    ],
)
def test_a_document_that_says_another_number(
    honest: Honest, path: str, change: Callable[[dict[str, Any]], object]
) -> None:
    def edit(exchange: Exchange) -> Exchange:
        if exchange.path != path:
            return exchange
        document = json.loads(exchange.body)
        change(document)
        return replace(exchange, body=json.dumps(document).encode())

    with before(honest.url, edit) as url:
        report = run_json(url, "--as", "npy", "--rows", 1)
    assert [sentence.startswith(f"contradicted: {path}: ") for sentence in report["contradictions"]] == [True]


def test_what_square_breaks_is_a_finding_and_no_contradiction(masters: Masters, honest: Honest, tmp_path: Path) -> None:
    """A weak evaluation, random corners alone: Square breaks what it calls right."""
    weak = make_bundle(tmp_path / "bundle", attacks=("pgd-10",), eps=(32,))
    with running_service(tmp_path, tmp_path / "log.txt") as client:
        report = run_json(str(client.base_url), "--as", "npy", "--square", 200)
        text = run(str(client.base_url), "--as", "npy", "--square", 200, "--seed", 0).stdout
    assert open_bundle(weak).digest == honest.bundle.digest
    assert report["outcome"] == "not contradicted"
    found = report["square"]
    assert (found["tried"], found["queries"], found["threat"]) == (20, 200, "linf-32")
    assert found["broken"] >= found["new"] > 5
    assert report["checks"][-1]["name"] == "found by Square" and report["checks"][-1]["contradicted"] == 0
    assert "a finding, no contradiction" in text


def test_private_evidence(masters: Masters, honest: Honest, tmp_path: Path) -> None:
    make_private(masters.unsigned, tmp_path / "bundle", tmp_path / "owned", bytes(range(32)))
    with running_service(tmp_path, tmp_path / "log.txt", HALLMARK_SELF_CHECK="if-possible") as client:
        url = str(client.base_url)
        bare, full = run_json(url), run_json(url, "--data", honest.data)
        images, labels = digits()
        (tmp_path / "wrong").mkdir()
        np.savez(tmp_path / "wrong" / "test.npz", images=images[::-1], labels=labels[::-1])
        wrong = run_json(url, "--data", tmp_path / "wrong")
    assert bare["outcome"] == full["outcome"] == "not contradicted"
    assert {item["name"] for item in bare["checks"]} == {"noise"} and bare["accuracies"] == []
    assert any(sentence.startswith("Clean images of the evidence: they are") for sentence in bare["notChecked"])
    names = ["clean", "clean, one level changed", "fresh", "noisy", "mixed", "noise"]
    assert [item["name"] for item in full["checks"]] == [name for name in names for _ in WAYS]
    assert any(sentence.startswith("Adversarial images") for sentence in full["notChecked"])
    assert "is not the test split of the evidence" in wrong["reason"]


def test_digest_and_data_are_held_against_the_service(honest: Honest, tmp_path: Path) -> None:
    assert "is about model" in run_json(honest.url, "--digest", "0" * 64)["reason"]
    assert "must be the whole SHA-256" in run_json(honest.url, "--digest", "0" * 12)["reason"]
    images, labels = digits()
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "test.npz", images=images[::-1], labels=labels[::-1])
    assert f"{OUTCOMES}: row 0" in run_json(honest.url, "--data", tmp_path / "data")["reason"]


def test_a_refusal_is_one_sentence_that_names_the_service(honest: Honest, masters: Masters) -> None:
    def missing(exchange: Exchange) -> Exchange:
        return replace(exchange, status=404) if exchange.path == f"/evidence/{ATTESTATION}" else exchange

    with before(honest.url, missing) as url:
        result = run(url)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith(f"refused: {url}/evidence/{ATTESTATION}: ")
    trusted = run(honest.url, "--trust", masters.other / "key.pub")
    assert trusted.exit_code == 1 and "attestation.dsse.json" in trusted.stderr


def test_the_page_s_commands_and_its_python(
    honest: Honest,
    masters: Masters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(honest.data, "out/data")
    shutil.copyfile(masters.trusted / "key.pub", "key.pub")
    Image.fromarray(honest.bundle.images["clean"][0, ..., 0]).save("digit.png")
    text = sections()[LIVE]
    found = [["--rows", "3", *command[3:]] for command, _ in commands(text)]
    assert [len(options) for options in found] == [2, 8]
    for options in found:
        result = run(honest.url, *options)
        assert result.exit_code == 0 and "not contradicted in" in result.stdout, result.output
    python = [line for line in indented(text) if not line.startswith("hallmark")]
    exec("\n".join(python).replace("http://127.0.0.1:3000", honest.url), {})
    label = honest.bundle.outcomes["served/clean/prediction"][0]
    assert capsys.readouterr().out.split()[0] == honest.bundle.class_names[label]
