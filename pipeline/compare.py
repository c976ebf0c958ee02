"""`make compare`: the methods side by side, same data, network, loop and selection; one table and one picture.

The runs are a plan made on the fly, or a plan that is named, which several processes of `python -m pipeline.experiments`
work off. Each run leaves a result under results/, so that a stopped comparison goes on where it was.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.process import available_cpus
from pipeline.stage import outcome

WORK, RESULTS = Path("out/compare"), Path("results")


def main(
    methods: Annotated[
        str | None, typer.Option(help="names of `python -m pipeline.methods`; all but those for certificates")
    ] = None,
    seeds: Annotated[str, typer.Option(help="whole numbers")] = "0 1 2",
    tier: Annotated[str, typer.Option(help="quick, or standard (with AutoAttack)")] = "quick",
    data: Annotated[str, typer.Option(help="data.name of params.yaml")] = "digits",
    data_path: Annotated[str, typer.Option(help="folder of the data sets")] = "datasets",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of params.yaml, e.g. train.epochs=20")
    ] = None,
    images: Annotated[int, typer.Option(help="test images, in a seeded order; all, where there are fewer")] = 1000,
    name: Annotated[str | None, typer.Option(help="of the comparison's results; by default the data's")] = None,
    plan: Annotated[
        Path | None, typer.Option(help="a plan whose experiments are compared, instead of methods; needs --name")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="experiment whose paired differences to all others the page shows")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes; by default a CPU core each, one on CUDA")
    ] = None,
) -> None:
    """Trains and attacks every method with every seed, then writes and prints the table."""
    from pipeline.experiments.comparison import MethodComparison
    from pipeline.experiments.plan import Places, load_plan
    from pipeline.experiments.result import load_result
    from pipeline.experiments.workers import work_off
    from pipeline.run.devices import choose_device

    setting = setting or []
    with outcome("compare", "stopped; the same command goes on where it was"):
        if plan is None:
            name = name or data
            command = _command(name, data, methods, tier, seeds, setting, images)
            entries = _entries((methods or _all_methods()).split(), _seeds(seeds), tier, data, setting, images)
            plan = WORK / name / "plan.yaml"
            write_whole(plan, yaml.safe_dump(entries, sort_keys=False).encode())
        elif name is None:
            raise HallmarkError("--plan: give the comparison a --name as well")
        else:
            command = f"python -m pipeline.compare --plan {plan} --name {name}"
        command += f" --against {against}" if against else ""
        runs = load_plan(plan, data_path)
        if against and against not in {run.name for run in runs}:
            raise HallmarkError(
                f"--against: must be one of {', '.join({run.name: 0 for run in runs})}, got {against!r}"
            )
        places = Places(RESULTS / f"compare-{name}", WORK / name, flat=True)
        device = choose_device(runs[0].params.device).type
        failed = work_off(plan, runs, places, data_path, command, workers or _processes(device))
        results = [load_result(path) for run in runs if run.key not in failed and (path := places.result(run)).exists()]
        if results:
            _show(MethodComparison(results), RESULTS / f"compare-{name}", command, against)
    for key, sentence in failed.items():
        print(f"compare: {key}: {sentence}", file=sys.stderr)
    raise SystemExit(1 if failed else 0)


def _entries(
    methods: list[str], seeds: list[int], tier: str, data: str, setting: list[str], images: int
) -> list[dict[str, Any]]:
    """The plan: costly methods first, so that no core is idle at the end."""
    from pipeline.methods import method_class
    from pipeline.params.reading import read_value

    # One thread per process: on small networks two processes of one thread do more than one of two.
    shared: dict[str, Any] = {"data.name": data, "attack.tier": tier, "threads": 1}
    given: dict[str, Any] = {}
    for item in setting:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise HallmarkError(f"--set: must be KEY=VALUE, e.g. train.epochs=20, got {item!r}")
        if key in given:
            raise HallmarkError(f"--set {key}: is there twice; give it once")
        given[key] = read_value(value)
    ordered = sorted(dict.fromkeys(methods), key=lambda method: -sum(method_class(method).passes))
    return [
        {
            "name": method,
            "settings": {**shared, **given, "method.name": method},
            "seeds": seeds,
            "images": images,
            "whole": False,
        }
        for method in ordered
    ]


def _processes(device: str) -> int:
    """As many as there are cores for this process; one on a GPU, which several would only share."""
    if device == "cuda":
        return 1
    return available_cpus()


def _all_methods() -> str:
    from pipeline.methods import method_class, method_names

    return " ".join(name for name in method_names() if not method_class(name).for_certificates)


def _seeds(text: str) -> list[int]:
    if not text.split() or not all(part.isdigit() for part in text.split()):
        raise HallmarkError(f"--seeds: must be whole numbers, e.g. '0 1 2', got {text!r}")
    return [int(part) for part in text.split()]


def _command(name: str, data: str, methods: str | None, tier: str, seeds: str, setting: list[str], images: int) -> str:
    """The command that makes the comparison, without folders and without what changes no number."""
    given = "".join(f" --set {shlex.quote(item)}" for item in setting)
    named = f" --name {name}" if name != data else ""
    chosen = f' --methods "{methods}"' if methods else ""
    return f'python -m pipeline.compare --data {data}{chosen} --tier {tier} --seeds "{seeds}" --images {images}{named}{given}'


def _show(comparison: Any, path: Path, command: str, against: str | None) -> None:
    from pipeline.experiments.scatter import scatter

    table, conditions, caveat = comparison.markdown(), comparison.conditions(), comparison.caveat()
    differences = comparison.differences(against) if against else []
    listed = "\n".join(f"* {line}" for line in differences)
    picture = f"![Clean against robust accuracy]({path.name}.svg)"
    title = f"# The {'experiments' if against else 'methods'} on {comparison.results[0].data.name}"
    parts = [title, table, conditions, listed, caveat, f"`{command}`", picture]
    drawn = scatter(comparison.rows(), conditions.split(",")[0])
    write_whole(path.with_name(f"{path.name}.md"), ("\n\n".join(part for part in parts if part) + "\n").encode())
    write_whole(path.with_name(f"{path.name}.svg"), (drawn + "\n").encode())
    print(f"{table}\n\n{conditions}\n\n{caveat}\n")
    for line in differences or comparison.gains():
        print(line)
    print(f"\nWritten: {path}.md, {path}.svg and the results in {path}/")


if __name__ == "__main__":
    run_command(main)
