"""`hallmark log`: a bundle on a tracking server, beside the runs of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.terminal import AsJson, Trust, print_json, say
from audit.tracking import EXPERIMENT, check_address, log_run
from audit.verification import verify
from audit.versions.find import BUNDLE


def log_command(
    mlflow: Annotated[
        str,
        typer.Option(metavar="URL", help="The tracking server's address; MLflow's own variables hold its password."),
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")] = BUNDLE,
    experiment: Annotated[str, typer.Option(metavar="NAME", help="Made where it is missing.")] = EXPERIMENT,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Log a bundle to an MLflow tracking server, verified first: metrics, parameters, tags, and its files as artifacts.

    The same bundle in the same experiment is one run, however often it is logged.
    """
    check_address(mlflow)
    found = verify(bundle, trust or [])
    logged = log_run(found, mlflow, experiment)
    if as_json:
        document = {"run": logged.run, "experiment": logged.experiment, "url": logged.url, "new": logged.new}
        print_json({**document, "version": found.bundle.version})
        return
    where = f"run {logged.run} in experiment {logged.experiment}"
    if logged.new:
        say(f"Version {found.bundle.version} logged: {where}")
    else:
        say(f"Version {found.bundle.version} is there already: {where}; nothing changed")
    say(logged.url)
