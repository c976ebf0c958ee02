"""The command `hallmark`. A refusal is one sentence on stderr and exit 1; wrong usage is exit 2."""

from __future__ import annotations

import signal

import typer

from audit.commands.audits import live, rerun
from audit.commands.bundles import document, merge_command, verify_command
from audit.commands.private import challenge as challenge_command
from audit.commands.private import prove, withhold
from audit.commands.release import gate_command, keygen, release_command, sign
from audit.commands.versions import TwoSides, diff, history, show, versions
from audit.terminal import OneSentence
from bundle.process import plain_streams

app = typer.Typer(
    cls=OneSentence,
    help="Lists, compares, gates, releases, signs, verifies and merges the measured robustness of models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(versions)
app.command()(show)
app.command("verify")(verify_command)
app.command(cls=TwoSides)(diff)
app.command("gate")(gate_command)
app.command()(history)
app.command("release")(release_command)
app.command()(keygen)
app.command()(sign)
app.command()(live)
app.command()(rerun)
app.command("merge")(merge_command)
app.command()(withhold)
app.command("challenge")(challenge_command)
app.command()(prove)
app.command()(document)


def main() -> None:
    """The entry point of `hallmark`."""
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a half-made release is undone, as by Ctrl-C
    app()
