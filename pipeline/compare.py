"""`make compare`: the methods side by side, same data, network, loop and selection; one table.

Each run (method and seed) leaves one folder under out/compare/ and is not done again while its settings and code are
the same, so that a stopped comparison goes on where it was.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bundle.comparisons import paired_difference
from bundle.digests import canonical_json, sha256_bytes, sha256_file, write_whole
from bundle.errors import HallmarkError
from bundle.intervals import clopper_pearson
from bundle.layout import OUTCOMES, WEIGHTS
from bundle.outcomes import Outcomes, load_outcomes
from pipeline import train
from pipeline.data.manifest import load_manifest
from pipeline.data.preparation import prepare_data
from pipeline.data.split import load_split
from pipeline.environment import source_digest
from pipeline.evaluation.evidence import gather_evidence
from pipeline.evaluation.ledger import record_test_read
from pipeline.evaluation.suite import speaker
from pipeline.methods import method_class
from pipeline.params import Params, complete
from pipeline.serialisation import load_network
from pipeline.stage import set_threads
from pipeline.training.devices import choose_device

OUT = Path("out/compare")
BASELINE = "standard"
METHODS = "standard pgd_at d2r d2r_cag regmix"
COLUMNS = ("clean", "pgd-50", "margin", "autoattack")


def main(
    methods: Annotated[str, typer.Option(help="names of `python -m pipeline.methods`")] = METHODS,
    seeds: Annotated[str, typer.Option(help="whole numbers")] = "0",
    tier: Annotated[str, typer.Option(help="quick or standard (with AutoAttack)")] = "standard",
    data: Annotated[str, typer.Option(help="data.name of params.yaml")] = "digits",
) -> None:
    """Trains and attacks every method with every seed, then prints the table."""
    try:
        runs = [_settings(name, int(seed), tier, data) for name in methods.split() for seed in seeds.split()]
        set_threads(runs[0].threads)
        prepare_data(runs[0].data, OUT / "data")
        results = [_run(params) for params in runs]
    except HallmarkError as error:
        print(f"compare: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    _print(results)


def _settings(method: str, seed: int, tier: str, data: str) -> Params:
    """The project's defaults for this method and data; params.yaml is not read."""
    return complete({"seed": seed, "data": {"name": data}, "method": {"name": method}, "attack": {"tier": tier}})


def _run(params: Params) -> dict[str, Any]:
    """One method and seed: the result of before, or training and attack now."""
    folder = OUT / f"{params.method['name']}-{params.seed}"
    identity = sha256_bytes(canonical_json({"settings": params.model_dump(), "source": source_digest()}))
    record = folder / "run.json"
    if record.exists() and (found := json.loads(record.read_text(encoding="utf-8")))["identity"] == identity:
        print(f"{folder.name}: done before")
    else:
        print(f"{folder.name}:", flush=True)
        found = {"identity": identity, **_train_and_attack(params, folder)}
        write_whole(record, canonical_json(found))
    return {**found, "params": params, "outcomes": load_outcomes(folder / OUTCOMES)}


def _train_and_attack(params: Params, folder: Path) -> dict[str, float]:
    started = time.monotonic()
    train.main(params, OUT / "data", folder)
    trained = time.monotonic()
    manifest = load_manifest(OUT / "data" / "manifest.json")
    record_test_read(sha256_file(folder / WEIGHTS), manifest["splits"]["test"]["sha256"])
    evidence = gather_evidence(
        load_network(folder),
        load_split(OUT / "data" / "test.npz"),
        params.attack,
        device=choose_device(params.device),
        classes=len(manifest["classes"]),
        say=speaker(),
    )
    evidence.outcomes.save(folder / OUTCOMES)
    return {"training_seconds": trained - started, "attack_seconds": time.monotonic() - trained}


def _right(outcomes: Outcomes, attack: str, threat: str) -> np.ndarray | None:
    """Which images are right under an attack; None where the tier does not run it."""
    if attack == "clean":
        return outcomes.clean_right("reference")
    if f"reference/{threat}/{attack}/broken" not in outcomes.columns:
        return None
    return outcomes.robust("reference", threat, [attack])


def _print(results: list[dict[str, Any]]) -> None:
    params: Params = results[0]["params"]
    threat = f"linf-{params.attack.eps_255[0]:g}" if params.attack.eps_255 else ""
    table = Table(
        "method",
        "seed",
        *COLUMNS,
        "training",
        "passes a step",
        title=f"{params.data.name}, {threat}/255, {len(results[0]['outcomes'])} test images, reference, 95 % intervals",
    )
    for result in results:
        cells = [_share(_right(result["outcomes"], column, threat)) for column in COLUMNS]
        method = method_class(result["params"].method["name"])
        passes = "{} forward, {} backward".format(*method.passes)
        table.add_row(method.title, str(result["params"].seed), *cells, f"{result['training_seconds']:.0f} s", passes)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    _print_means(results, threat)
    _print_gains(results, threat)


def _print_means(results: list[dict[str, Any]], threat: str) -> None:
    """With several seeds: mean and standard deviation over them, which say how much a recipe's result moves."""
    methods = dict.fromkeys(result["params"].method["name"] for result in results)
    if len(results) == len(methods):
        return
    table = Table("method", "seeds", *COLUMNS, title="mean ± standard deviation over seeds")
    for name in methods:
        runs = [result["outcomes"] for result in results if result["params"].method["name"] == name]
        cells = []
        for column in COLUMNS:
            shares = [100 * right.mean() for run in runs if (right := _right(run, column, threat)) is not None]
            cells.append(f"{np.mean(shares):.1f} ± {np.std(shares, ddof=1):.1f} %" if len(shares) > 1 else "not run")
        table.add_row(method_class(name).title, str(len(runs)), *cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _print_gains(results: list[dict[str, Any]], threat: str) -> None:
    """For each run, the paired difference to the undefended network of the same seed under the strongest attack run."""
    floors = {item["params"].seed: item["outcomes"] for item in results if item["params"].method["name"] == BASELINE}
    strongest = "autoattack" if results[0]["params"].attack.tier == "standard" else "margin"
    for result in results:
        params, floor = result["params"], floors.get(result["params"].seed)
        if params.method["name"] == BASELINE or floor is None:
            continue
        ours, theirs = (_right(outcomes, strongest, threat) for outcomes in (result["outcomes"], floor))
        assert ours is not None and theirs is not None  # every tier runs its strongest attack
        gain = paired_difference(theirs, ours)
        print(
            f"{params.method['name']} (seed {params.seed}) minus no defence, {strongest}: {gain.difference:+.1%} "
            f"[{gain.interval[0]:+.1%}, {gain.interval[1]:+.1%}], "
            f"{gain.only_b} images won, {gain.only_a} lost of {gain.images}"
        )


def _share(right: np.ndarray | None) -> str:
    if right is None:
        return "not run"
    lower, upper = clopper_pearson(int(right.sum()), len(right))
    return f"{right.mean():.1%} [{lower:.1%}, {upper:.1%}]"


if __name__ == "__main__":
    typer.run(main)
