"""Draws docs/architecture.svg from the imports: `python -m docs.draw_architecture`, whenever a folder comes or goes.

A box is a folder with its number of files; within a room a box imports only from those below it. A line is left out where a
way through other boxes says the same. The first box of a room is the files at its top: commands, stages, the bundle itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

from bundle.command_line import run_command
from bundle.digests import write_whole
from tests.imports import ROOT, imports, modules

PICTURE = Path(__file__).with_name("architecture.svg")
BOX, GAP, ROW, HEAD, MARGIN = 104, 12, 62, 34, 18
#: Room → where its frame begins, in boxes and rows, how many boxes it is wide, and what it does in a word.
ROOMS = {
    "pipeline": (0, 0, 4, "makes"),
    "bundle": (4.4, 0, 3, "carries"),
    "serving": (7.8, 0, 2, "answers"),
    "audit": (7.8, 5, 3, "checks"),
    "hallmark": (5.4, 7, 1, ""),
}
#: The public face knows rooms on three sides of it, and none knows it.
FACE = "hallmark"
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24; text-anchor: middle } .room { font-size: 15px; font-weight: 600 }
.small { font-size: 11px; fill: #57606a } rect { fill: #f6f8fa; stroke: #8c959f; rx: 6 } .frame { fill: none; stroke: #d0d7de }
.line { fill: none; stroke: #8c959f; stroke-opacity: 0.55 } .arrow { fill: none; stroke: #0969da; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9198a1 } rect { fill: #161b22; stroke: #656c76 }
.frame { stroke: #3d444d } }
"""


def folder(module: str) -> tuple[str, str]:
    """Room and folder of a module; the folder is "" for what lies at the room's top."""
    parts = modules()[module].relative_to(ROOT).parts
    return parts[0], parts[1] if len(parts) > 2 else ""


@cache
def below(room: str) -> dict[str, set[str]]:
    """Each folder of a room with those that it imports from; the room's top is above all others."""
    found: dict[str, set[str]] = {name: set() for place, name in map(folder, modules()) if place == room and name}
    for module in modules():
        for other in imports(module):
            (place, name), (there, wanted) = folder(module), folder(other)
            if place == there == room and name != wanted and name and wanted:
                found[name].add(wanted)
    return found


def direct(room: str, name: str) -> set[str]:
    """The folders below one that no other folder on the way leads to."""
    found = below(room).get(name, set())
    return {other for other in found if not any(other in _all_below(room, way) for way in found)}


def _all_below(room: str, name: str) -> set[str]:
    found = below(room)[name]
    return found.union(*(_all_below(room, other) for other in found))


def height(room: str, name: str) -> int:
    """How many folders lie below one, along the longest way down."""
    return 1 + max((height(room, other) for other in below(room)[name]), default=-1)


@cache
def places(room: str) -> dict[str, tuple[float, float]]:
    """The middle of each box's top, the room's own first; rows are filled from above."""
    left, top, wide, _ = ROOMS[room]
    rows: dict[int, list[str]] = {}
    for name in sorted(below(room)):
        rows.setdefault(height(room, name), []).append(name)
    lines = [[""]] + [
        names[at : at + wide]
        for level in sorted(rows, reverse=True)
        for names in [rows[level]]
        for at in range(0, len(names), wide)
    ]
    return {
        name: (
            MARGIN + (left + (wide - len(names)) / 2 + at + 0.5) * (BOX + GAP),
            MARGIN + HEAD + (top + row) * ROW,
        )
        for row, names in enumerate(lines)
        for at, name in enumerate(names)
    }


def boxes(room: str) -> Iterator[str]:
    """The room's frame, its boxes and the lines between them."""
    left, top, wide, does = ROOMS[room]
    files = Counter(name for place, name in map(folder, modules()) if place == room)
    bottom = max(y for _, y in places(room).values()) + ROW - 8
    x, y = MARGIN + left * (BOX + GAP) - 4, MARGIN + top * ROW
    yield f'<rect class="frame" x="{x:g}" y="{y:g}" width="{wide * (BOX + GAP) + 8:g}" height="{bottom - y:g}"/>'
    yield f'<text class="room" x="{x + wide * (BOX + GAP) / 2:g}" y="{y + 21:g}">{room}/ {does}</text>'
    for name, (middle, high) in places(room).items():
        for other in sorted(direct(room, name)):
            end, low = places(room)[other]
            bend = f"C{middle:g} {high + 62:g} {end:g} {low - 22:g}"
            yield f'<path class="line" d="M{middle:g} {high + 40:g} {bend} {end:g} {low:g}"/>'
    for name, (middle, high) in places(room).items():
        shown = f"{name}/" if name else "files at the top"
        yield f'<rect x="{middle - BOX / 2:g}" y="{high:g}" width="{BOX}" height="40"/>'
        yield f'<text x="{middle:g}" y="{high + 17:g}">{escape(shown)}</text>'
        yield f'<text class="small" x="{middle:g}" y="{high + 32:g}">{files[name]} files</text>'


def arrows() -> Iterator[str]:
    """From each room to bundle/, which is all that it knows of the others, and from the face to the rooms around it."""
    yield from _arrows_of_face()
    left, _, wide, _ = ROOMS["bundle"]
    start, end = MARGIN + left * (BOX + GAP) - 4, MARGIN + (left + wide) * (BOX + GAP) + 4
    for room, (other, top, width, _) in ROOMS.items():
        if room not in ("bundle", FACE):
            y = MARGIN + (top + 0.9) * ROW
            near, far = (
                (end, MARGIN + other * (BOX + GAP) - 4)
                if other > left
                else (start, MARGIN + (other + width) * (BOX + GAP) + 4)
            )
            yield f'<path class="arrow" marker-end="url(#tip)" d="M{far:g} {y:g} L{near:g} {y:g}"/>'


def _arrows_of_face() -> Iterator[str]:
    left, top, wide, _ = ROOMS[FACE]
    first, last = MARGIN + left * (BOX + GAP) - 4, MARGIN + (left + wide) * (BOX + GAP) + 4
    high, middle = MARGIN + top * ROW, MARGIN + (top + 0.9) * ROW
    bundle = max(y for _, y in places("bundle").values()) + ROW - 8
    pipeline, audit = MARGIN + ROOMS["pipeline"][2] * (BOX + GAP) + 4, MARGIN + ROOMS["audit"][0] * (BOX + GAP) - 4
    ends = (
        (first, middle, pipeline, middle),
        (last, middle, audit, middle),
        ((first + last) / 2, high, (first + last) / 2, bundle),
    )
    for x, y, to, up in ends:
        yield f'<path class="arrow" marker-end="url(#tip)" d="M{x:g} {y:g} L{to:g} {up:g}"/>'


def picture() -> str:
    """The whole drawing."""
    wide = max(left + boxes_wide for left, _, boxes_wide, _ in ROOMS.values()) * (BOX + GAP) + 2 * MARGIN
    tall = max(y for room in ROOMS for _, y in places(room).values()) + ROW + MARGIN
    head = '<path d="M0 0 L6 3 L0 6 z" fill="#0969da"/>'
    tip = f'<marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">{head}</marker>'
    parts = "\n".join([*(part for room in ROOMS for part in boxes(room)), *arrows()])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {tall:g}" role="img"><title>The rooms and folders of '
        f"Hallmark and what imports what</title><style>{STYLE}</style><defs>{tip}</defs>\n{parts}\n</svg>\n"
    )


def main() -> None:
    """Draws docs/architecture.svg from the imports."""
    write_whole(PICTURE, picture().encode())


if __name__ == "__main__":
    run_command(main)
