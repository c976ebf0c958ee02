"""`hallmark log`: a run on a real MLflow server, where MLflow is installed; its refusals everywhere."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit import tracking
from audit.cli import app
from audit.versions.summary import farthest_proof
from bundle.bundle import open_bundle
from bundle.pages.headline import robust_claim
from bundle.pages.metrics import metrics
from tests.audit.conftest import Masters

#: Seconds in which a server must answer.
WAIT = 120
NOWHERE = "http://127.0.0.1:9"


def _server_is_here() -> bool:
    try:
        return bool(version("mlflow"))  # mlflow-skinny has the client alone
    except PackageNotFoundError:
        return False


needs_server = pytest.mark.skipif(not _server_is_here(), reason="mlflow, which has the server, is not installed")


def log(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["log", *map(str, arguments)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow server` on a database of its own, in a process group that is ended whole."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    options = ["--backend-store-uri", "sqlite:///runs.db", "--artifacts-destination", str(folder / "files")]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--workers",
        "1",
        "--port",
        address.rpartition(":")[2],
        *options,
    ]
    with (folder / "log.txt").open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env={**os.environ, **tracking.SURROUNDINGS},
        )
        try:
            _wait_for(address, process, folder / "log.txt")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], said: Path) -> None:
    until = time.monotonic() + WAIT
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    pytest.fail(f"mlflow server does not answer: {said.read_text()[-2000:]}")


def _client(address: str) -> Any:
    return importlib.import_module("mlflow").MlflowClient(tracking_uri=address)


@needs_server
def test_a_run_holds_the_numbers_and_a_bundle_that_verifies(server: str, masters: Masters, tmp_path: Path) -> None:
    said = log(masters.signed, "--mlflow", server, "--trust", masters.trusted, "--json")
    assert said.exit_code == 0, said.output
    document, bundle = json.loads(said.stdout), open_bundle(masters.signed)
    assert document["new"] and document["version"] == bundle.version and document["run"] in document["url"]
    run = _client(server).get_run(document["run"])
    assert metrics(bundle.statement).items() <= run.data.metrics.items()
    claim, proof = robust_claim(bundle.predicate, "served", "linf-32"), farthest_proof(bundle.predicate)
    assert [run.data.metrics[f"robust_{end}"] for end in ("lower", "upper")] == claim["interval"]
    assert proof is None or run.data.metrics["proved"] == proof["value"]
    assert run.data.params.items() >= {"data": "digits", "eps_255": "32", "digest": bundle.digest}.items()
    assert run.data.tags["hallmark.signature"] == "signed" and run.info.status == "FINISHED"
    fetched = _client(server).download_artifacts(run.info.run_id, "bundle", str(tmp_path))
    assert CliRunner().invoke(app, ["verify", fetched, "--trust", str(masters.trusted)]).exit_code == 0
    assert (Path(fetched) / "report.html").is_file()


@needs_server
def test_the_same_bundle_is_one_run_of_an_experiment(server: str, masters: Masters) -> None:
    where = ("--mlflow", f"{server}/", "--experiment", "one run")
    first, again = (log(masters.unsigned, *where, "--json").stdout for _ in "ab")
    run = json.loads(first)["run"]
    assert (json.loads(again)["run"], json.loads(again)["new"]) == (run, False)
    assert f"is there already: run {run} in experiment one run; nothing changed" in log(masters.unsigned, *where).stdout
    assert json.loads(log(masters.second, *where, "--json").stdout)["new"]
    assert json.loads(log(masters.unsigned, *where[:2], "--experiment", "other", "--json").stdout)["new"]
    number = _client(server).get_experiment_by_name("one run").experiment_id
    assert len(_client(server).search_runs([number])) == 2


@needs_server
def test_a_run_is_there_whole_or_not_at_all(server: str, masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--mlflow", server, "--experiment", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "copy_verified", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert log(masters.unsigned, *where).exit_code == 130
    client = _client(server)
    assert client.search_runs([client.get_experiment_by_name("whole").experiment_id]) == []
    assert json.loads(log(masters.unsigned, *where, "--json").stdout)["new"]
    client.delete_experiment(client.get_experiment_by_name("whole").experiment_id)
    said = log(masters.unsigned, *where)
    assert said.exit_code == 1 and "was deleted on the server" in said.stderr


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow's client is not installed")
def test_a_server_that_is_not_there_is_one_sentence(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = log(masters.unsigned, "--mlflow", NOWHERE)
    assert (said.exit_code, said.stderr.count("\n")) == (1, 1) and "Connection refused" in said.stderr


def test_without_the_extra_the_line_that_installs_it_is_said(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = log(masters.unsigned, "--mlflow", NOWHERE)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == "MLflow's client is not installed: pip install 'hallmark-robustness[mlflow]'\n"


def test_what_does_not_verify_is_refused_before_anything_is_imported(
    unsigned: Path, masters: Masters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_client", lambda _: pytest.fail("no server is asked"))
    assert "consistent but unsigned" in log(unsigned, "--mlflow", NOWHERE, "--trust", masters.trusted).stderr
    (unsigned / "report.html").write_text("better")
    said = log(unsigned, "--mlflow", NOWHERE)
    assert said.exit_code == 1 and "report.html" in said.stderr
    assert "must be a tracking server's address" in log(unsigned, "--mlflow", "sqlite:///runs.db").stderr
