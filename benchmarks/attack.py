"""How long an evaluation takes beside pyautoattack alone: same network, images, seed, threads, in one process.

`python -m benchmarks.attack` needs `out/` of `make repro`; it writes benchmarks/attack.md. The order of the rounds
alternates, because whatever runs first on a shared machine meets another machine than what runs last.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from pyautoattack import AutoAttack

from bundle.command_line import run_command
from bundle.digests import write_whole
from pipeline.data.manifest import load_manifest
from pipeline.data.split import load_split
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.running import worker_count
from pipeline.evaluation.tiers import attacked_threats
from pipeline.evaluation.victim import Victim, draw
from pipeline.networks.blocks import to_unit
from pipeline.networks.serialisation import load_companions, load_network
from pipeline.resolve import load_params
from pipeline.run.cache import Cache
from pipeline.run.environment import describe_environment
from pipeline.run.records import Folders
from pipeline.stage import set_threads

ROUNDS = 3
PAGE = Path(__file__).with_suffix(".md")
ALONE = "pyautoattack standard alone"


def silent(line: str) -> None:
    """Says nothing."""


def main() -> None:
    """Times the three in turn, ROUNDS times, and writes medians and ratios."""
    params, folders = load_params(), Folders(Path("out"))
    set_threads(params.threads)
    network, device = load_network(folders.trained), torch.device("cpu")
    drawn = draw(load_split(folders.data / "test.npz"), params.attack)
    classes = len(load_manifest(folders.data / "manifest.json")["classes"])
    victim = Victim(network, classes, load_companions(folders.trained), folders.model.read_bytes())

    def alone() -> None:
        threat = attacked_threats(params.attack)[0]
        images = to_unit(torch.from_numpy(drawn.images).permute(0, 3, 1, 2).contiguous())
        attack = AutoAttack(network, norm="Linf", eps=threat.eps, seed=params.attack.seed, device=device)
        attack.run_standard_evaluation(images, torch.from_numpy(drawn.labels), batch_size=params.attack.batch_size)

    def tier(name: str) -> Callable[[], None]:
        """A tier as the stage attack runs it, on as many processes."""
        settings = params.attack.model_copy(update={"tier": name})

        def evaluate() -> None:
            with TemporaryDirectory() as folder:
                processes = worker_count(device, name, params.threads)
                gather_evidence(
                    victim, drawn, settings, device=device, say=silent, cache=Cache(Path(folder)), processes=processes
                )

        return evaluate

    work = {ALONE: alone, "Hallmark, tier quick": tier("quick"), "Hallmark, tier standard": tier("standard")}
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS):
        for name in list(work)[:: 1 if number % 2 == 0 else -1]:
            started = time.perf_counter()
            work[name]()
            seconds[name].append(time.perf_counter() - started)
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
    environment = describe_environment(device, params.threads)
    write_whole(PAGE, _page(seconds, len(drawn), environment["threads"], environment["cpu_instructions"]).encode())
    print(f"written: {PAGE}")


def _page(seconds: dict[str, list[float]], images: int, threads: int, instructions: str) -> str:
    base = statistics.median(seconds[ALONE])
    rows = [
        f"| {name} | {statistics.median(times):.1f} s | {min(times):.1f} to {max(times):.1f} s | "
        f"{np.median(np.array(times) / np.array(seconds[ALONE])):.2f} |"
        for name, times in seconds.items()
    ]
    return "\n".join(
        [
            "# An evaluation beside pyautoattack alone",
            "",
            f"The default digits model, {images} test images, {threads} thread(s) on a CPU ({instructions}), the same seed; "
            f"{ROUNDS} rounds in one process, their order alternating. The ratio is the median over the rounds of each to "
            f"`{ALONE}` ({base:.1f} s) in the same round.",
            "",
            "| what | median | range | ratio |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"Standard is shared by {worker_count(torch.device('cpu'), 'standard', threads)} processes. It runs AutoAttack "
            "and, beyond it, PGD, margin, FGSM, noise, transfer, the adaptive attack, Square on the ONNX file, the sweep "
            "of eps, the corruptions and the sanity checks.",
            "",
            "`python -m benchmarks.attack`",
            "",
        ]
    )


if __name__ == "__main__":
    run_command(main)
