"""`python -m pipeline.rerun BUNDLE`, which is `hallmark rerun`: a bundle's own evaluation repeated and held against it.

Nothing is written but what a stopped call goes on from, below checkpoints/ of the current folder.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bundle.command_line import run_command
from bundle.errors import HallmarkError
from pipeline.stage import outcome

if TYPE_CHECKING:
    from pipeline.rerun.report import RerunReport


def main(
    bundle: Annotated[Path, typer.Argument(help="the bundle's folder")],
    sample: Annotated[int | None, typer.Option(min=1, help="so many of its images; by default all")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="draws the sample; by default the attestation's digest")
    ] = None,
    factory: Annotated[
        list[str] | None,
        typer.Option(help="module:function that the bundle names and that may be run; it is your code"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; by default as recorded")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Repeats a bundle's evaluation, prints what differs image by image, and ends with 1 where it is contradicted."""
    with outcome("rerun", "stopped; the same command goes on after the last finished part"):
        try:
            with redirect_stdout(sys.stderr):  # progress; what is printed is the report alone
                report = _report(bundle, sample, seed, factory or [], threads, device)
        except HallmarkError as error:
            if as_json:
                print(json.dumps({"outcome": "refused", "reason": str(error)}, indent=2))
                raise SystemExit(1) from None
            raise
        if as_json:
            print(json.dumps(report.describe(), indent=2, sort_keys=True))
        else:
            from pipeline.rerun.report import print_report

            print_report(report)
        if report.outcome == "contradicted":
            raise SystemExit(1)


def _report(
    path: Path, sample: int | None, seed: int | None, factories: list[str], threads: int | None, device: str
) -> RerunReport:
    from bundle.served.runtime import OnnxClassifier
    from pipeline.evaluation.from_bundle import check_network, open_published
    from pipeline.rerun.conditions import select
    from pipeline.rerun.repetition import recorded_settings
    from pipeline.rerun.rerunning import rerun
    from pipeline.run.devices import choose_device
    from pipeline.stage import set_threads

    place = choose_device(device)
    published = open_published(path, factories)
    settings = recorded_settings(published)
    selection = select(len(published.bundle.outcomes), sample, seed, published.attestation)
    threads = threads or int(published.bundle.predicate["parameters"].get("threads") or 2)
    set_threads(threads)
    classifier = OnnxClassifier(published.bundle.model, threads=threads, device="cpu")
    own = {name: array[selection.rows] for name, array in published.bundle.images.items()}
    twin = check_network(published, classifier, own)
    print(
        f"model {published.bundle.version}: the network is the file's twin, logits differ by at most "
        f"{twin.difference:.1e} on {twin.images} images of the evidence",
        flush=True,
    )
    return rerun(published, selection, settings, classifier, device=place, threads=threads)


if __name__ == "__main__":
    run_command(main)
