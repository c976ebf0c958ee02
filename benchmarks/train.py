"""How long a training step takes beside the official procedure: same networks, images and rows, turn about.

`python -m benchmarks.train` on the device at hand; it adds its rows to benchmarks/train.json. A turn is some steps of
each, in an order that alternates, because these machines are shared: what is reported are medians of paired ratios.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from benchmarks.official import STEPS
from bundle.command_line import run_command
from bundle.digests import canonical_json, write_whole
from pipeline.data.split import Split
from pipeline.methods import Method
from pipeline.networks.blocks import to_unit
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.devices import choose_device, make_fabric, pays_off
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
    plain = {name: network.to(device, memory_format=torch.contiguous_format) for name, network in networks.items()}
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


def measure(
    name: str,
    network: str,
    width: int | None,
    batch: int,
    variants: list[str],
    device: torch.device,
    rounds: int,
    turn: float,
) -> list[dict[str, Any]]:
    """A row for each variant: images a second, and the ratio to the official procedure in the same round."""
    guide = {} if name == "regmix" else {"guide": network, "guide_width": width}
    work: dict[str, Callable[[int], None]] = {}
    for variant in variants:
        params = complete(
            {
                "device": device.type,
                "data": {"name": "cifar10"},
                "network": {"name": network, "width": width, **guide},
                "method": {"name": name},
                "train": {"batch_size": batch, **VARIANTS[variant]},
            }
        )
        training = make_training(params, device)
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
    rows = [
        {
            "method": name,
            "network": network,
            "width": width,
            "batch": batch,
            "what": what,
            "images_per_second": round(batch / statistics.median(found), 1),
            "ratios": [round(base / own, 3) for base, own in zip(times[OFFICIAL], found, strict=True)],
        }
        for what, found in times.items()
    ]
    for row in rows:
        ratio = statistics.median(row["ratios"])
        print(
            f"{name} {network} {width or ''} {row['what']}: {row['images_per_second']:.0f} images/s, {ratio:.2f}",
            flush=True,
        )
    return rows


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
    environment = describe_environment(chosen, threads)
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    for text in network.split(","):
        name, _, width = text.partition(":")
        for each in method.split(","):
            found = measure(each, name, int(width) if width else None, batch, variant.split(";"), chosen, rounds, turn)
            kept += [{**row, "device": environment["device"], "environment": environment} for row in found]
            write_whole(results, canonical_json(kept))


if __name__ == "__main__":
    run_command(main)
