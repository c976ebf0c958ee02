"""AutoAttack standard on a trained network beside pyautoattack by itself: time, and verdicts image by image.

`python -m benchmarks.autoattack FOLDER DATA` with a folder of weights and one of splits, as `make results` leaves them in
out/results; it writes benchmarks/autoattack.md. Both have the same images, seed, batches, threads and targets, in one
process and in turn; ours crafts against the network with its BatchNorms folded, in the layout that pays off.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from pyautoattack import AutoAttack
from torch import Tensor, nn

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.table.threats import Threat
from pipeline.data.split import load_split
from pipeline.evaluation.tiers import jobs
from pipeline.evaluation.victim import Sample, Victim
from pipeline.experiments.verdicts import seeded_order
from pipeline.networks.blocks import to_unit
from pipeline.networks.serialisation import load_network
from pipeline.params import AttackSettings
from pipeline.run.cache import uncached
from pipeline.run.devices import in_layout
from pipeline.run.environment import describe_environment
from pipeline.stage import set_threads

PAGE = Path(__file__).with_suffix(".md")
SEED = 0


def main(
    trained: Annotated[Path, typer.Argument(metavar="FOLDER", help="weights.safetensors and network.json.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The splits: test.npz.")],
    images: Annotated[int, typer.Option(min=2, help="Test images, drawn by a seed.")] = 200,
    eps_255: Annotated[float, typer.Option(help="The l∞ radius, in 255ths.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 2,
    threads: Annotated[int, typer.Option(min=1, help="Of torch.")] = 2,
) -> None:
    """Times both, `rounds` times in alternating order, and writes the page."""
    set_threads(threads)
    split = load_split(data / "test.npz")
    rows = seeded_order(len(split), SEED)[:images]
    drawn = split.take(rows)
    clean = to_unit(torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous())
    sample = Sample(clean, torch.from_numpy(drawn.labels), torch.from_numpy(rows))
    network = load_network(trained).eval()
    ways = {"pyautoattack": lambda: alone(network, sample, eps_255), "Hallmark": lambda: ours(trained, sample, eps_255)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    broken: dict[str, Tensor] = {}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            started = time.perf_counter()
            found = ways[name]()
            seconds[name].append(time.perf_counter() - started)
            broken[name] = _wrong(network, found, sample.labels)
            right = 1 - broken[name].float().mean()
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s, {right:.1%} right", flush=True)
    about = f"{trained.name}, {images} test images, l∞ {eps_255:g}/255, {threads} thread(s)"
    write_whole(PAGE, _page(about, seconds, broken, rows.tolist(), threads).encode())
    print(f"written: {PAGE}")


def alone(network: nn.Module, sample: Sample, eps_255: float) -> Tensor:
    """pyautoattack as its README has it."""
    attack = AutoAttack(network, norm="Linf", eps=eps_255 / 255, seed=SEED, device=torch.device("cpu"))
    return attack.run_standard_evaluation(sample.images, sample.labels, batch_size=len(sample))[0]


def ours(trained: Path, sample: Sample, eps_255: float) -> Tensor:
    """The job of the tier standard."""
    network = in_layout(load_network(trained).eval(), torch.channels_last)
    settings = AttackSettings(eps_255=[eps_255], batch_size=len(sample), seed=SEED)
    threat, side = Threat("linf", eps_255), min(sample.images.shape[2:])
    (job,) = (
        job for job in jobs(Victim(network, 10), threat, settings, side, lambda line: None) if job.name == "autoattack"
    )
    return job.run(sample, uncached)["autoattack"].images


@torch.no_grad()
def _wrong(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return network(images).argmax(1) != labels


def _page(about: str, seconds: dict[str, list[float]], broken: dict[str, Tensor], rows: list[int], threads: int) -> str:
    environment = describe_environment(torch.device("cpu"), threads)
    ratios = [a / b for a, b in zip(seconds["pyautoattack"], seconds["Hallmark"], strict=True)]
    apart = (broken["pyautoattack"] != broken["Hallmark"]).nonzero().flatten().tolist()
    said = ", ".join(str(rows[place]) for place in apart) or "none"
    lines = [
        f"| {name} | {statistics.median(times):.1f} s | {min(times):.1f} to {max(times):.1f} s | "
        f"{int((~broken[name]).sum())} of {len(rows)} |"
        for name, times in seconds.items()
    ]
    return "\n".join(
        [
            "# AutoAttack standard beside pyautoattack",
            "",
            f"{about} on a CPU ({environment['cpu_instructions']}); {len(ratios)} rounds in one process, their order "
            f"alternating. Ratio of times, round by round: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}).",
            "",
            "| what | median | range | right |",
            "|---|---:|---:|---:|",
            *lines,
            "",
            f"Rows of the test split with another verdict: {said}. Verdicts are of the network as it is, in float32.",
            "",
        ]
    )


if __name__ == "__main__":
    run_command(main)
