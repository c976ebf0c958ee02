"""`python -m tests.hostile`: every hostile input to its real command, and the table of docs/testing.md."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from bundle.command_line import run_command
from bundle.errors import escaped
from tests.hostile.cases import CASES, Case
from tests.hostile.child import Outcome, run

HEAD = "| input | what is wrong | what is said | MiB | seconds |\n|---|---|---|--:|--:|"
#: Characters of a sentence in the table.
SHOWN = 160


def attempt(case: Case) -> Outcome:
    """Makes the input in a new folder and hands it to its command."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "work"
        folder.mkdir()
        return run(case.build(folder), folder, case.allowed)


def wrong(case: Case, outcome: Outcome) -> list[str]:
    """What a refusal may not be; nothing where it is as it should be."""
    said = outcome.said
    found = [
        (outcome.code not in (1, 2), f"exit {outcome.code}"),
        (len(said) != 1 or "Traceback" in said[0], f"says {len(said)} lines: {said[:3]}"),
        (any(escaped(line) != line for line in said), "control characters"),
        (bool(outcome.written), f"writes {outcome.written[:3]}"),
        (outcome.mebibytes > case.mebibytes, f"takes {outcome.mebibytes} MiB"),
    ]
    return [sentence for is_so, sentence in found if is_so]


def main() -> None:
    """Prints the table; exit 1 where anything was accepted, or refused otherwise than in one sentence."""
    print(HEAD, flush=True)
    faults: list[str] = []
    for group, cases in groupby(CASES, key=lambda case: case.group):
        for place, case in enumerate(cases):
            outcome = attempt(case)
            faults += [f"{group}, {case.name}: {sentence}" for sentence in wrong(case, outcome)]
            print(_row(group if place == 0 else "", case, outcome), flush=True)
    print(f"\n{len(CASES)} inputs, {len(faults)} faults", *faults, sep="\n")
    sys.exit(bool(faults))


def _row(group: str, case: Case, outcome: Outcome) -> str:
    said = " ".join(outcome.said).replace("|", "\\|")
    shown = said if len(said) <= SHOWN else f"{said[:SHOWN]}…"
    return f"| {group} | {case.name} | {shown} | {outcome.mebibytes} | {outcome.seconds:.1f} |"


if __name__ == "__main__":
    run_command(main)
