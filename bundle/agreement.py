"""The two settings held against each other, image by image: what the 8-bit grid and the exported file changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import Outcomes


def agreement(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Counts of images by verdict in the reference and in the served setting: clean, then for every attack.

    `bothRight`, `onlyReferenceBroken` (what the grid lost), `onlyServedBroken`, `bothBroken`; their sum is the sample
    size. For clean images broken means wrong.
    """
    found = [_matrix(~outcomes.clean_right("reference"), ~outcomes.clean_right("served"))]
    for attack in settings["attacks"]:
        name = f"{attack['threat']}/{attack['name']}"
        reference, served = (outcomes[f"{setting}/{name}/broken"].astype(bool) for setting in ("reference", "served"))
        found.append({"threat": attack["threat"], "attack": attack["name"], **_matrix(reference, served)})
    return found


def _matrix(reference: NDArray[np.bool_], served: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "bothRight": int((~reference & ~served).sum()),
        "onlyReferenceBroken": int((reference & ~served).sum()),
        "onlyServedBroken": int((~reference & served).sum()),
        "bothBroken": int((reference & served).sum()),
    }
