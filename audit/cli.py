"""The command `hallmark`. A refusal is one sentence on stderr and exit 1; wrong usage is exit 2."""

from __future__ import annotations

import signal
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated, ClassVar

import typer

from audit.terminal import Command, Commands, say
from bundle.command_line import DISTRIBUTION, STYLE
from bundle.process import plain_streams


class HallmarkCommands(Commands):
    """What there is, and in which file of audit/commands: imported when it is asked for, so that help comes at once."""

    table: ClassVar = {
        "versions": Command("versions:versions", "List every version at hand."),
        "show": Command("versions:show", "Show one version, or the one that a service serves."),
        "verify": Command("bundles:verify_command", "Check every file, claim and image of a bundle."),
        "diff": Command("versions:diff", "Compare two versions image by image.", "TwoSides"),
        "gate": Command("release:gate_command", "Hold a version against a policy."),
        "history": Command("versions:history", "Draw the numbers over the versions."),
        "release": Command("release:release_command", "Gate, sign, store and tag a bundle."),
        "keygen": Command("release:keygen", "Make a key for signing."),
        "sign": Command("release:sign", "Verify a bundle and sign it."),
        "fetch": Command("audits:fetch", "Fetch a service's bundle into a folder."),
        "live": Command("audits:live", "Audit a running service from outside."),
        "rerun": Command("audits:rerun", "Repeat a bundle's attacks from its own parameters."),
        "merge": Command("bundles:merge_command", "Join evaluations of one model."),
        "withhold": Command("private:withhold", "Make a bundle without its test images."),
        "challenge": Command("private:challenge", "Draw rows of private evidence to be opened."),
        "prove": Command("private:prove", "Open the rows that a challenge names."),
        "log": Command("log:log_command", "Log a bundle to an MLflow server."),
        "document": Command("bundles:document", "Write model card, ML-BOM and crosswalk."),
    }


app = typer.Typer(cls=HallmarkCommands, no_args_is_help=True, **STYLE)


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


def main() -> None:
    """The entry point of `hallmark`."""
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a half-made release is undone, as by Ctrl-C
    app()
