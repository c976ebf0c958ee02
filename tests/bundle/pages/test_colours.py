"""The colours of the pages can be read in both schemes."""

from __future__ import annotations

import re

import pytest

from bundle.pages.report import STYLE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_readable(scheme: str) -> None:
    """WCAG AA: text at least 4.5 to 1, marks at least 3 to 1, on the page and on panels."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[{"light": 0, "dark": 1}[scheme]]))
    for ground in ("ground", "panel", "warn-ground"):
        for name in ("ink", "muted", "pass", "fail", "accent"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["warn-ink"], colours["ground"]) >= 4.5
    for name in ("reference", "served", "certified", "broken", "heat"):
        assert contrast(colours[name], colours["ground"]) >= 3, name
    for name in ("heat", "served"):
        # The strongest cell that carries text, in tables and in heat maps.
        assert contrast(colours["ink"], mixed(colours[name], colours["ground"], 0.55)) >= 4.5, name


def mixed(colour: str, ground: str, share: float) -> str:
    parts = [[int(item[start : start + 2], 16) for start in (1, 3, 5)] for item in (colour, ground)]
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in zip(*parts, strict=True))


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
