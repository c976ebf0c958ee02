"""report.html."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import Outcomes


def render_report(
    predicate: Mapping[str, Any], digest: str, outcomes: Outcomes, images: Mapping[str, NDArray[np.uint8]]
) -> str:
    """One self-contained HTML page."""
    return f"<!doctype html><title>{digest}</title>\n"
