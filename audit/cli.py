"""The command `hallmark`. A refusal is one sentence on stderr and exit 1; wrong usage is exit 2."""

from __future__ import annotations

import signal
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from audit.commands.audits import fetch, live, rerun
from audit.commands.bundles import document, merge_command, verify_command
from audit.commands.log import log_command
from audit.commands.private import challenge as challenge_command
from audit.commands.private import prove, withhold
from audit.commands.release import gate_command, keygen, release_command, sign
from audit.commands.versions import TwoSides, diff, history, show, versions
from audit.terminal import OneSentence, say
from bundle.command_line import DISTRIBUTION, STYLE
from bundle.process import plain_streams

app = typer.Typer(cls=OneSentence, no_args_is_help=True, **STYLE)


def _print_version(asked: bool) -> None:
    if asked:
        say(f"hallmark {_installed()}")
        raise typer.Exit


def _installed() -> str:
    try:
        return version_of(DISTRIBUTION)
    except PackageNotFoundError:  # the code was copied without its metadata
        return "unknown"


@app.callback()
def hallmark(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """List, compare, gate, release, sign, verify and merge the measured robustness of models."""


app.command(short_help="List every version at hand.")(versions)
app.command(short_help="Show one version, or the one that a service serves.")(show)
app.command("verify", short_help="Check every file, claim and image of a bundle.")(verify_command)
app.command(cls=TwoSides, short_help="Compare two versions image by image.")(diff)
app.command("gate", short_help="Hold a version against a policy.")(gate_command)
app.command(short_help="Draw the numbers over the versions.")(history)
app.command("release", short_help="Gate, sign, store and tag a bundle.")(release_command)
app.command(short_help="Make a key for signing.")(keygen)
app.command(short_help="Verify a bundle and sign it.")(sign)
app.command(short_help="Fetch a service's bundle into a folder.")(fetch)
app.command(short_help="Audit a running service from outside.")(live)
app.command(short_help="Repeat a bundle's attacks from its own parameters.")(rerun)
app.command("merge", short_help="Join evaluations of one model.")(merge_command)
app.command(short_help="Make a bundle without its test images.")(withhold)
app.command("challenge", short_help="Draw rows of private evidence to be opened.")(challenge_command)
app.command(short_help="Open the rows that a challenge names.")(prove)
app.command("log", short_help="Log a bundle to an MLflow server.")(log_command)
app.command(short_help="Write model card, ML-BOM and crosswalk.")(document)


def main() -> None:
    """The entry point of `hallmark`."""
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a half-made release is undone, as by Ctrl-C
    app()
