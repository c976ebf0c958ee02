"""`make repro DATA=pictures`: params.yaml for a folder of one's own images, with what suits their number, size and device.

On a GPU what is open stays open: the method's paper decides. On a CPU the network is small and the schedule quick, with as
many epochs as a few minutes hold; PGD-AT, which learnt on two sets of some hundred pictures where D²R-CAG stayed at chance,
and was no worse on the digits (docs/images.md has the numbers). What is chosen stands in params.yaml afterwards, and in the
attestation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from PIL import Image

from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.formats.yaml12 import YamlError, load, read
from pipeline.data.image_files import all_files, read_layout, reason_left_out
from pipeline.params.reading import ParamsError
from pipeline.resolve import complete, is_section
from pipeline.run.devices import choose_device

#: Values by section and key, as params.yaml has them.
Values = Mapping[tuple[str, str], Any]
#: Sides that images are resized to; the digits' network is for the small ones.
SIDES = (8, 16, 32, 64)
#: Images whose size is looked at.
LOOKED_AT = 200
#: Images of 8 x 8 pixels that PGD-AT trains the small network on in a second, one thread (results/compare-digits); larger
#: images take GROWTH of their side as long, about. SECONDS are for the training alone.
PER_SECOND, GROWTH, SECONDS = 440.0, 1.5, 300.0
DIGITS: Values = {
    ("data", "name"): "digits",
    ("data", "path"): "datasets",
    ("data", "image_size"): None,
    ("data", "channels"): None,
}


def main(
    data: Annotated[str, typer.Argument(help="A folder of folders of images, a class each; or digits.")],
    params: Annotated[Path, typer.Option(help="The file that is written.")] = Path("params.yaml"),
) -> None:
    """Writes params.yaml for a folder of your own images, once: a file that names the folder already stays as it is."""
    document = read(params)
    if (document.get("data") or {}).get("path" if data != "digits" else "name") == data:
        print(f"{params} is for {data} already and stays as it is")
        return
    values = back_to_digits(document) if data == "digits" else chosen(Path(data), document)
    write_whole(params, changed(params.read_text(encoding="utf-8"), values).encode())
    said = ", ".join(f"{section}.{key} {value}" for (section, key), value in values.items() if value is not None)
    print(f"{params} now says: {said}. Change what you like; `make repro DATA=digits` goes back")


def chosen(folder: Path, document: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """What suits a folder of images on this machine's device; raises HallmarkError where there is no such folder."""
    if not folder.is_dir():
        raise HallmarkError(f"DATA={folder}: is not a folder; it must hold a folder of images for each class")
    read_layout(folder, None)
    images = [folder / file for file in all_files(folder) if reason_left_out(folder, file) is None]
    side, channels = common_form(images)
    values: dict[tuple[str, str], Any] = {
        ("data", "name"): "folder",
        ("data", "path"): folder.as_posix(),
        ("data", "image_size"): side,
        ("data", "channels"): channels,
    }
    return values | (small(len(images), side) if choose_device(document.get("device", "auto")).type == "cpu" else {})


def common_form(images: list[Path]) -> tuple[int, int]:
    """Side and channels: the largest of SIDES that half of the images reach with their shorter side; 1 where all are grey.

    Looks at images drawn evenly from all.
    """
    seen = [form for path in images[:: max(1, len(images) // LOOKED_AT)] if (form := _form(path)) is not None]
    if not seen:
        raise HallmarkError("DATA: holds no image that can be read; docs/images.md says which files are")
    middle = median(shorter for shorter, _ in seen)
    return max([side for side in SIDES if side <= middle] or SIDES[:1]), max(channels for _, channels in seen)


def _form(path: Path) -> tuple[int, int] | None:
    """The shorter side and the channels; None for a damaged file, which the stage prepare names."""
    try:
        with Image.open(path) as image:
            return min(image.size), 1 if image.mode in ("1", "L", "I;16") else 3
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def small(images: int, side: int) -> dict[tuple[str, str], Any]:
    """On a CPU: a network and a schedule that end in about ten minutes, and fewer images to attack."""
    epoch = images * (side / 8) ** GROWTH / PER_SECOND
    return {
        ("network", "name"): "preact_resnet8",
        ("network", "width"): 16,
        ("method", "name"): "pgd_at",
        ("train", "schedule"): "digits",
        ("train", "epochs"): min(40, max(4, int(SECONDS / epoch))),
        ("attack", "images"): min(100, max(1, images // 5)),
    }


def back_to_digits(document: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """The digits as the file came; what a folder's choices set is left open again."""
    there = {(section, key) for section, part in document.items() if isinstance(part, dict) for key in part}
    return {**DIGITS, **dict.fromkeys(there & {*small(1, 8)}), ("method", "name"): "d2r_cag"}


def changed(text: str, values: Values) -> str:
    """params.yaml with these values, its comments as they were; raises HallmarkError where its form does not allow that."""
    wanted = load(text)
    for (section, key), value in values.items():
        wanted[section] = {**(wanted.get(section) or {}), key: value}
        text = _with_value(text, section, key, "null" if value is None else str(value))
    if not _says(text, wanted):
        listed = "; ".join(f"{section}.{key}: {value}" for (section, key), value in values.items())
        raise HallmarkError(
            f"params.yaml: is not written as it came, so that nothing was changed; write there {listed}"
        )
    try:
        complete({name: {} if part is None and is_section(name) else part for name, part in wanted.items()})
    except ParamsError as error:
        raise HallmarkError(
            f"params.yaml: would not fit these images: {error}; take out what it says, then again"
        ) from None
    return text


def _says(text: str, wanted: object) -> bool:
    try:
        return load(text) == wanted
    except YamlError:
        return False


def _with_value(text: str, section: str, key: str, value: str) -> str:
    """One key of one section in block style; a key that is not there follows the section's name."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.split("#")[0].rstrip() == f"{section}:"), None)
    if start is None:
        return text + f"\n{section}:\n  {key}: {value}\n"
    for at in range(start + 1, len(lines)):
        if lines[at][:1] not in ("", " ", "#"):
            break
        if lines[at].startswith(f"  {key}:"):
            _, mark, comment = lines[at].partition(" #")
            lines[at] = f"  {key}: {value}".ljust(21) + (f" #{comment}" if mark else "")
            lines[at] = lines[at].rstrip()
            return "\n".join(lines) + "\n"
    lines.insert(start + 1, f"  {key}: {value}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
