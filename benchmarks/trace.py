"""Where a training step's time goes: operations by their time, and a trace for chrome://tracing or ui.perfetto.dev.

`python -m benchmarks.trace` writes trace.json; `make profile` is the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.train import make_training, own_steps, training_params
from bundle.command_line import run_command
from pipeline.run.devices import choose_device
from pipeline.stage import set_threads

#: More than what is compiled, captured and allocated in the first steps.
WARM_UP = 12


def main(
    method: Annotated[str, typer.Option(help="of pipeline/methods")] = "d2r_cag",
    network: Annotated[str, typer.Option(help="name or name:width")] = "resnet20",
    batch: Annotated[int, typer.Option(help="images a step")] = 32,
    steps: Annotated[int, typer.Option(help="steps that are traced")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(help="of the CPU")] = 1,
    trace: Annotated[Path, typer.Option(help="file that the trace is written to")] = Path("trace.json"),
) -> None:
    """Traces some steps of a method on random images."""
    set_threads(threads)
    chosen = choose_device(device)
    take = own_steps(make_training(training_params(method, network, batch, chosen, {}), chosen))
    take(WARM_UP)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if chosen.type == "cuda" else [])]
    with profile(activities=kinds) as found:
        take(steps)
    order = "self_device_time_total" if chosen.type == "cuda" else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=40))
    found.export_chrome_trace(str(trace))
    print(f"written: {trace}")


if __name__ == "__main__":
    run_command(main)
