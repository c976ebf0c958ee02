"""`python -m pipeline.reattack BUNDLE`: a published model attacked again, with nothing but its bundle.

Its network is rebuilt from the bundle and must be the ONNX file's twin on all of the evidence. The very images of the
bundle are attacked, with its threats and settings but for what the options change, and a second bundle of the same
model is written; `hallmark merge` joins the two, so that a claim can only go down.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.command_line import run_command
from bundle.errors import HallmarkError
from pipeline.stage import outcome, set_threads


def main(
    bundle: Annotated[Path, typer.Argument(help="the bundle's folder")],
    tier: Annotated[str | None, typer.Option(help="quick, standard or thorough; by default the bundle's")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of the attacks; by default the bundle's and 1")] = None,
    out: Annotated[Path | None, typer.Option(help="the new bundle; by default beside it")] = None,
    eps_255: Annotated[str | None, typer.Option("--eps-255", help="linf radii instead, in 255ths: 8,16")] = None,
    eps_l2: Annotated[str | None, typer.Option("--eps-l2", help="l2 radii instead, for images in [0, 1]")] = None,
    eps_l1: Annotated[str | None, typer.Option("--eps-l1", help="l1 radii instead, for images in [0, 1]")] = None,
    restarts: Annotated[int | None, typer.Option(help="random starts of PGD and margin")] = None,
    seeds: Annotated[int | None, typer.Option(help="thorough: seeds that AutoAttack is run with")] = None,
    batch_size: Annotated[int | None, typer.Option(help="images attacked at once")] = None,
    transfer_from: Annotated[
        list[Path] | None, typer.Option(help="another bundle, whose network's adversarial images are carried over")
    ] = None,
    factory: Annotated[
        list[str] | None, typer.Option(help="module:function that a bundle names and that may be run; it is your code")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; by default as recorded")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """Attacks the bundle's model again; prints the claims of both side by side, and how they are joined."""
    with outcome("reattack"):
        from pipeline.evaluation.from_bundle import open_published
        from pipeline.evaluation.reattacking import attack_again, changed_settings

        options = {
            "tier": tier,
            "seed": seed,
            "eps_255": _radii("--eps-255", eps_255),
            "eps_l2": _radii("--eps-l2", eps_l2),
            "eps_l1": _radii("--eps-l1", eps_l1),
            "restarts": restarts,
            "seeds": seeds,
            "batch_size": batch_size,
        }
        published = open_published(bundle, factory or [])
        companions = [open_published(path, factory or []) for path in transfer_from or []]
        settings = changed_settings(published.bundle.predicate, options)
        if companions and settings.tier == "quick":
            raise HallmarkError(
                "--transfer-from: the tier quick carries nothing over; give --tier standard or thorough"
            )
        out = out or bundle.resolve().with_name(f"{bundle.resolve().name}-reattack-{settings.tier}-{settings.seed}")
        threads = threads or int(published.bundle.predicate["parameters"].get("threads") or 2)
        set_threads(threads)
        again = attack_again(published, companions, settings, out, device=device, threads=threads)
        print_side_by_side(published.bundle.predicate, again)
        print(f"Second bundle of model {published.bundle.version}: {out}")
        print(f"Join them: {shlex.join(['hallmark', 'merge', str(bundle), str(out)])} -o DIR")


def print_side_by_side(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """A table of the claims of two bundles of one model, in per cent; a claim that one lacks is a dash."""
    from rich.console import Console
    from rich.table import Table

    table = Table("threat", "attack", "setting", "bundle", "again")
    claims = [{_key(claim): claim for claim in predicate["claims"]} for predicate in (before, after)]
    for key in dict.fromkeys([*claims[0], *claims[1]]):
        percentages = [f"{100 * found[key]['value']:.1f}" if key in found else "-" for found in claims]
        table.add_row(*key, *percentages)
    Console().print(table)


def _key(claim: Mapping[str, Any]) -> tuple[str, str, str]:
    return claim.get("threat", "none"), claim.get("attack", "clean"), claim["setting"]


def _radii(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise HallmarkError(f"{option}: must be numbers, e.g. 8,16; got {text!r}") from None


if __name__ == "__main__":
    run_command(main)
