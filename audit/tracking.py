"""A bundle as a run on an MLflow tracking server: metrics, parameters, tags, and its files as artifacts.

MLflow's client is the extra `mlflow` and is imported here alone, once a bundle has verified.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audit.hub import INSIDE, copy_verified
from audit.verification import Verification
from audit.versions.summary import farthest_proof
from bundle.bundle import Bundle
from bundle.command_line import DISTRIBUTION
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.pages.headline import headline_bound, headline_threat
from bundle.pages.metrics import metrics_in_full, share_metrics
from bundle.pages.notebook import headline_line
from bundle.table.threats import RADIUS_FIELD
from bundle.temporaries import temporary_folder

EXPERIMENT = "hallmark"
#: The tag by which a run is found again.
IDENTITY = "hallmark.attestation"
#: What MLflow is told unless the surroundings say otherwise: no usage reports, nothing printed between our lines, and an
#: answer within seconds where no server is; by itself it would ask for four minutes.
SURROUNDINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
#: Characters of what a server says that a sentence repeats.
LONGEST_REASON = 200


@dataclass(frozen=True)
class Logged:
    """A run on a server; `new` is false where it was there before."""

    run: str
    experiment: str
    url: str
    new: bool


def check_address(address: str) -> str:
    """The address without a slash at its end; raises HallmarkError where it is not one of a tracking server."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise HallmarkError(f"--mlflow {address}: must be a tracking server's address, http:// or https://")
    return address.rstrip("/")


def log_run(found: Verification, address: str, experiment: str) -> Logged:
    """The run of a verified bundle in an experiment, which is made where it is missing; the same attestation makes one run.

    A run is there whole or not at all. Raises HallmarkError where MLflow's client is not installed, or the server refuses.
    """
    address = check_address(address)
    client = _client(address)
    with _one_sentence(address):
        number = _experiment(client, experiment)
        known = _known(client, number, sha256_bytes(found.bundle.statement_bytes))
        run = known or _make(client, number, found)
    return Logged(run, experiment, f"{address}/#/experiments/{number}/runs/{run}", new=not known)


def _client(address: str) -> Any:
    for variable, value in SURROUNDINGS.items():
        os.environ[variable] = os.environ.get(variable) or value
    try:
        return importlib.import_module("mlflow").MlflowClient(tracking_uri=address)
    except ImportError:
        raise HallmarkError(f"MLflow's client is not installed: pip install '{DISTRIBUTION}[mlflow]'") from None


@contextmanager
def _one_sentence(address: str) -> Generator[None]:
    """What MLflow raises, as a HallmarkError."""
    refused = importlib.import_module("mlflow.exceptions").MlflowException
    try:
        yield
    except refused as error:
        raise HallmarkError(f"{address}: MLflow could not log there: {_reason(error)}; nothing was logged") from None


def _reason(error: BaseException) -> str:
    """The system's word where there is one, such as `Connection refused`, else the beginning of MLflow's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    said = " ".join(str(error).split())
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}…"


def _experiment(client: Any, name: str) -> str:
    """Its number on the server."""
    there = client.get_experiment_by_name(name)
    if there is None:
        return client.create_experiment(name)
    if there.lifecycle_stage != "active":
        raise HallmarkError(
            f"{name}: this experiment was deleted on the server; restore it or give --experiment another"
        )
    return there.experiment_id


def _known(client: Any, experiment: str, attestation: str) -> str | None:
    """The finished run of an attestation; what a killed process left is not finished."""
    wanted = f"tags.`{IDENTITY}` = '{attestation}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], wanted, max_results=1)
    return runs[0].info.run_id if runs else None


def _make(client: Any, experiment: str, found: Verification) -> str:
    name = f"{found.bundle.version} {found.bundle.predicate['method']['name']}"
    run = client.create_run(experiment, tags=tags(found), run_name=name).info.run_id
    try:
        _fill(client, run, found.bundle)
        client.set_terminated(run)
    except BaseException:
        with suppress(Exception):  # a server that is gone keeps a run that never finished
            client.delete_run(run)
        raise
    return run


def _fill(client: Any, run: str, bundle: Bundle) -> None:
    for name, value in parameters(bundle).items():
        client.log_param(run, name, value)
    for name, value in measured(bundle).items():
        client.log_metric(run, name, value)
    with temporary_folder(Path(tempfile.gettempdir()), "hallmark-log", hidden=False) as folder:
        copy_verified(bundle, folder / INSIDE)
        client.log_artifacts(run, str(folder))


def measured(bundle: Bundle) -> dict[str, float]:
    """DVC's metrics with the ends of their intervals, and what is proved, under the names of `hallmark versions --csv`."""
    found = metrics_in_full(bundle.statement)
    if proof := farthest_proof(bundle.predicate):
        found |= share_metrics("proved", proof) | {"proved_eps_255": proof["eps_255"]}
    if bound := headline_bound(bundle.predicate):
        found |= share_metrics("smoothed", bound) | {"smoothed_radius": bound["radius"]}
    return found


def parameters(bundle: Bundle) -> dict[str, Any]:
    """What runs are told apart by; `eps_255` in 255ths, or `eps` for l2 and l1."""
    predicate, threat = bundle.predicate, headline_threat(bundle.predicate)
    radius = RADIUS_FIELD[threat["norm"]]
    return {
        **{"data": predicate["data"]["name"], "method": predicate["method"]["name"]},
        **{"network": predicate["network"]["name"], "threat": threat["name"], radius: threat[radius]},
        **{"tier": predicate["tier"], "images": predicate["sample"]["size"]},
        **{"version": bundle.version, "digest": bundle.digest},
    }


def tags(found: Verification) -> Mapping[str, str]:
    """What a run is found by, and its description in MLflow's pages."""
    bundle = found.bundle
    return {
        IDENTITY: sha256_bytes(bundle.statement_bytes),
        "hallmark.version": bundle.version,
        "hallmark.reliable": str(bundle.predicate["reliable"]).lower(),
        "hallmark.signature": found.signature.state,
        "mlflow.note.content": headline_line(bundle.statement),
    }
