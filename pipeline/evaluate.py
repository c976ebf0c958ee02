"""`make evaluate`: a network that was trained elsewhere, through every stage but training, to a bundle of its own.

The same stages with the same code as `dvc repro`, below evaluations/NAME/out: prepare, adopt (in place of train),
export, attack, certify, attest. The same command goes on where it stopped, and does nothing twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.command_line import run_command
from bundle.digests import each_once, sha256_file
from bundle.errors import HallmarkError
from bundle.layout import NETWORK, OUTCOMES, WEIGHTS
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.records import Folders
from pipeline.stage import exclusive, outcome, set_threads

EVALUATIONS = Path("evaluations")
#: Sections of params.yaml that say something about an evaluation; nothing is trained here.
SECTIONS = ("threads", "device", "data", "threat", "export", "attack", "certify")


def main(
    model: Annotated[str, typer.Option(help="module:function that returns the network, or torchvision:NAME")],
    weights: Annotated[
        str | None, typer.Option(help="FILE of safetensors or torch.save; FILE#SECTION where it holds several")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="of the folder below evaluations/; by default model and data")
    ] = None,
    data: Annotated[str, typer.Option(help="data.name of params.yaml; folder for images of your own")] = "cifar10",
    path: Annotated[str, typer.Option(help="folder that holds the data")] = "datasets",
    arguments: Annotated[str, typer.Option(help="of the function, as JSON")] = "{}",
    mean: Annotated[str | None, typer.Option(help="subtracted first, a number per channel: 0.49,0.48,0.45")] = None,
    std: Annotated[str | None, typer.Option(help="divided by then, a number per channel: 0.20,0.20,0.20")] = None,
    outputs: Annotated[
        str | None, typer.Option(help="which of the network's outputs are the classes, from 0, in their order: 281,207")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="side in pixels of a folder's images")] = None,
    channels: Annotated[int | None, typer.Option(help="1 or 3, of a folder's images")] = None,
    tier: Annotated[str | None, typer.Option(help="quick, standard or thorough")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of params.yaml, e.g. attack.images=200")
    ] = None,
    certify: Annotated[bool, typer.Option(help="certify radii too: 1,100 passes per image")] = True,
) -> None:
    """Checks the network, exports, attacks, certifies and attests it; prints the bundle's numbers and where it is."""
    with outcome("evaluate"):
        from pipeline.external.adopt import Model

        given = {"image_size": image_size, "channels": channels}
        document = {
            "data": {"name": data, "path": path} | {key: value for key, value in given.items() if value is not None}
        }
        params = settings(document, [*(setting or []), *([f"attack.tier={tier}"] if tier else [])])
        normalisation = _numbers("mean", mean), _numbers("std", std)
        adopted = Model(model, _object(arguments), *normalisation, weights, _whole_numbers("outputs", outputs))
        folder = EVALUATIONS / folder_name(name, model, data)
        with exclusive(folder / ".lock"):
            set_threads(params.cpu_threads)
            run(params, adopted, Folders(folder / "out"), certified=certify)


def run(params: Params, model: Any, folders: Folders, *, certified: bool = True) -> None:
    """Every stage below `folders`; export, attack and certify only where what they depend on has changed."""
    from pipeline import attack, attest, certify, export, prepare
    from pipeline.external import adopt

    prepare.main(params, folders, training=False)
    adopt.main(params, model, folders)
    network, test = [folders.trained / WEIGHTS, folders.trained / NETWORK], folders.data / "test.npz"
    outcomes, device = folders.evidence / OUTCOMES, {"device": params.device, "threads": params.cpu_threads}
    once = partial(_once, folders.root)
    exported = {**device, **params.export.model_dump()}
    once(folders.model, exported, [*network, folders.data / "validation.npz"], lambda: export.main(params, folders))
    attacked = {**device, **params.attack.model_dump(), "threat": params.threat.model_dump()}
    once(outcomes, attacked, [*network, folders.model, test], lambda: attack.main(params, folders))
    smoothed = {**device, **params.certify.model_dump()} if certified else None
    once(
        folders.certified / OUTCOMES,
        smoothed,
        [*network, test, outcomes],
        lambda: certify.main(params, folders) if certified else certify.leave_out(folders),
    )
    attest.main(params, folders)
    print(f"Print it: hallmark show {folders.bundle}    Serve it: python -m serving --bundle {folders.bundle}")


def _once(root: Path, out: Path, settings: Any, reads: list[Path], work: Callable[[], object]) -> None:
    """Does a stage's work unless its last output is there and was made by this code of the same settings and files."""
    from pipeline.run.cache import once
    from pipeline.run.environment import source_digest

    digests = {str(read.relative_to(root)): sha256_file(read) for read in reads}
    record = root / "made" / f"{out.relative_to(root).as_posix().replace('/', '-')}.json"
    if not once(out, record, {"settings": settings, "reads": digests, "source": source_digest()}, work):
        print(f"{out} is there, made by the same code of the same settings and files", flush=True)


def settings(document: Mapping[str, Any], given: list[str]) -> Params:
    """The settings of an evaluation, with `given` KEY=VALUE pairs; what is left out has the data's defaults.

    Raises HallmarkError for a key that only training has.
    """
    from pipeline.params.reading import read_value

    complete_document: dict[str, Any] = {key: dict(value) for key, value in document.items()}
    for number, item in enumerate(given):
        key, equals, value = item.partition("=")
        section, dot, field = key.partition(".")
        if not equals or not key:
            raise HallmarkError(f"--set: must be KEY=VALUE, e.g. attack.images=200, got {item!r}")
        if section not in SECTIONS:
            raise HallmarkError(f"--set {key}: nothing is trained here; the sections are {', '.join(SECTIONS)}")
        if key in (other.partition("=")[0] for other in given[:number]):
            raise HallmarkError(f"--set {key}: is there twice; give it once")
        if dot:
            complete_document.setdefault(section, {})[field] = read_value(value)
        else:
            complete_document[section] = read_value(value)
    # A method must be named; none of its settings reaches a stage that runs here, or the attestation.
    return complete({**complete_document, "method": {"name": "standard"}})


def folder_name(name: str | None, model: str, data: str) -> str:
    """The folder's name: the one given, or one made of model and data."""
    chosen = name if name is not None else re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}-{data}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", chosen):
        raise HallmarkError(f"--name: must be letters, digits, points, hyphens and underscores, got {chosen!r}")
    return chosen


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise HallmarkError(
            f"--{option}: must be numbers, one per channel, e.g. 0.49,0.48,0.45; got {text!r}"
        ) from None


def _whole_numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise HallmarkError(f"--{option}: must be whole numbers from 0, one per class, e.g. 281,207; got {text!r}")
    return [int(part) for part in parts]


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HallmarkError(
            f"""--arguments: must be a JSON object with each name once, e.g. '{{"width": 64}}', got {text!r}"""
        )
    return found


if __name__ == "__main__":
    run_command(main)
