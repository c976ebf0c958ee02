"""How long a training step takes beside the official procedure: same networks, images and rows, turn about.

`python -m benchmarks.train` on the device at hand; it adds its rows to benchmarks/train.json and writes train.md. A turn
is some steps of each, in an order that alternates, because machines are shared: reported are medians of paired ratios.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import nn

from benchmarks.official import STEPS
from bundle.command_line import run_command
from bundle.digests import canonical_json, write_whole
from pipeline.data.split import Split
from pipeline.methods import Method, method_class
from pipeline.networks.blocks import to_unit
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.devices import choose_device, in_layout, make_fabric, pays_off
from pipeline.run.environment import describe_environment
from pipeline.stage import set_threads
from pipeline.training.batches import Sampling
from pipeline.training.build import build_method
from pipeline.training.loop import Training

RESULTS = Path(__file__).with_suffix(".json")
IMAGES, SHAPE, CLASSES = 1024, (3, 32, 32), 10
OFFICIAL = "official procedure, fp32"
#: What is timed beside it: a name, and the settings of `train` that differ from the defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "Hallmark": {},
    "Hallmark, fp32": {"precision": "fp32"},
    "Hallmark, compiled": {"compile": True},
}


class Row(NamedTuple):
    """What was measured of one variant; `ratios` are to the official procedure, turn by turn."""

    method: str
    network: str
    batch: int
    what: str
    images_per_second: float
    ratios: list[float]

    def cells(self) -> list[str | int]:
        """As the page shows it."""
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        return [self.method, self.network, self.batch, self.what, f"{self.images_per_second:.0f}", spread]


def make_training(params: Params, device: torch.device) -> Training:
    """A training on random images: what a step costs does not depend on what they show."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, *SHAPE[1:], SHAPE[0]), dtype=np.uint8)
    split = Split(images, generator.integers(0, CLASSES, IMAGES))
    assert params.train.batch_size
    torch.manual_seed(0)
    fast = pays_off(device, SHAPE)
    return Training(
        build_method(params, split, CLASSES, own=IMAGES),
        split,
        split,
        params.train,
        sampling=Sampling(IMAGES, 0, 0.0, params.train.batch_size, 0),
        seed=0,
        fabric=make_fabric(device, params.train, fast=fast),
        fast=fast,
    )


def own_steps(training: Training) -> Callable[[int], None]:
    """So many steps of ours, all that the loop does in one: augmentation, crafting, losses, update, averaging."""
    rows = training.batches.order(0)
    training.method.train()
    training.epoch = 1
    done = 0

    def take(count: int) -> None:
        nonlocal done
        for _ in range(count):
            training.step(rows[done % len(rows)], done, 1e-3)
            done += 1

    return take


def official_steps(method: Method, training: Training, device: torch.device) -> Callable[[int], None]:
    """So many steps of the official procedure on the same rows; images are there already, augmentation is left out."""
    networks: dict[str, nn.Module] = {name: copy.deepcopy(network) for name, network in method.named_children()}
    plain: dict[str, Any] = {
        name: in_layout(network, torch.contiguous_format).to(device) for name, network in networks.items()
    }
    if method.name != "d2r_cag":
        plain |= {"images": IMAGES, "shape": SHAPE, "device": device}
    step, rows = STEPS[method.name](**plain), training.batches.order(0)
    images, labels = to_unit(training.batches.images), training.batches.labels
    done = 0

    def take(count: int) -> None:
        nonlocal done
        for _ in range(count):
            chosen = rows[done % len(rows)].to(device)
            step(images[chosen], labels[chosen], chosen)
            done += 1

    return take


def seconds(take: Callable[[int], None], count: int, device: torch.device) -> float:
    """Seconds of a step, over `count` of them."""
    _wait(device)
    started = time.perf_counter()
    take(count)
    _wait(device)
    return (time.perf_counter() - started) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training_params(method: str, network: str, batch: int, device: torch.device, train: dict[str, Any]) -> Params:
    """Settings for a method on a network, `name` or `name:width`; a guide, where the method has one, is the same."""
    name, _, width = network.partition(":")
    channels = int(width) if width else None
    guide = {"guide": name, "guide_width": channels} if method_class(method).needs_guide else {}
    return complete(
        {
            "device": device.type,
            "data": {"name": "cifar10"},
            "network": {"name": name, "width": channels, **guide},
            "method": {"name": method},
            "train": {"batch_size": batch, **train},
        }
    )


def measure(
    method: str, network: str, batch: int, variants: list[str], device: torch.device, rounds: int, turn: float
) -> list[Row]:
    """A row for each variant: images a second, and the ratio to the official procedure in the same round."""
    work: dict[str, Callable[[int], None]] = {}
    for variant in variants:
        training = make_training(training_params(method, network, batch, device, VARIANTS[variant]), device)
        if OFFICIAL not in work:
            work[OFFICIAL] = official_steps(training.method, training, device)
        work[variant] = own_steps(training)
    counts: dict[str, int] = {}
    for what, take in work.items():
        take(2 * 8)  # more than what is compiled, captured and allocated in the first ones
        counts[what] = max(1, round(turn / seconds(take, 2, device)))
    times: dict[str, list[float]] = {what: [] for what in work}
    for number in range(rounds):
        for what in list(work)[:: 1 if number % 2 == 0 else -1]:
            times[what].append(seconds(work[what], counts[what], device))
    found = [
        Row(
            method,
            network,
            batch,
            what,
            batch / statistics.median(own),
            [base / one for base, one in zip(times[OFFICIAL], own, strict=True)],
        )
        for what, own in times.items()
    ]
    for row in found:
        print(" ".join(map(str, row.cells())), flush=True)
    return found


def main(
    network: Annotated[str, typer.Option(help="name or name:width, by commas")] = "preact_resnet18:16,resnet20",
    method: Annotated[str, typer.Option(help="by commas")] = "d2r_cag,regmix",
    variant: Annotated[str, typer.Option(help="what is timed, by semicolons")] = "Hallmark;Hallmark, fp32",
    batch: Annotated[int, typer.Option(help="images a step")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(help="of the CPU")] = 1,
    rounds: Annotated[int, typer.Option(help="turns of each")] = 5,
    turn: Annotated[float, typer.Option(help="seconds of a turn")] = 5.0,
    results: Annotated[Path, typer.Option(help="file that rows are added to")] = RESULTS,
) -> None:
    """Times the steps, turn about, and adds what was measured to a file."""
    set_threads(threads)
    chosen = choose_device(device)
    where = place(chosen, threads)
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    for name in network.split(","):
        for each in method.split(","):
            found = measure(each, name, batch, variant.split(";"), chosen, rounds, turn)
            kept += [{**row._asdict(), "place": where} for row in found]
            write_whole(results, canonical_json(kept))
            write_whole(results.with_suffix(".md"), page(kept).encode())


def page(rows: list[dict[str, Any]]) -> str:
    """The table of all rows, those of a device together."""
    lines = [
        "# A training step beside the official procedure",
        "",
        "Images a second of whole steps: ours with augmentation, crafting, losses, update and averaging, the official one "
        "(benchmarks/official.py) without augmentation. The ratio is the median over the turns of each to the official "
        "procedure in the same turn, in brackets the range. fp32 is plain: TF32 is off for both.",
    ]
    for place in dict.fromkeys(row["place"] for row in rows):
        head = ["| method | network | batch | what | images/s | ratio |", "|---|---|---:|---|---:|---:|"]
        found = [Row(**{name: row[name] for name in Row._fields}) for row in rows if row["place"] == place]
        lines += ["", f"## {place}", "", *head, *(f"| {' | '.join(map(str, row.cells()))} |" for row in found)]
    return "\n".join([*lines, "", "`python -m benchmarks.train --help` says what can be asked.", ""])


def place(device: torch.device, threads: int) -> str:
    """Where something was timed, in words."""
    environment = describe_environment(device, threads)
    processor = [environment["cpu_instructions"]] if device.type == "cpu" else []
    return ", ".join([environment["device"], *processor, f"{threads} thread(s)", f"torch {torch.__version__}"])


if __name__ == "__main__":
    run_command(main)
