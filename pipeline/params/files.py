"""Files that a method's settings name: a record holds their digests, since a path says nothing to others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.digests import sha256_file

#: Settings of methods that are paths to weights.
WEIGHTS = ("guide_weights", "init_weights")


def with_digests(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings with `sha256:DIGEST` in place of each path; null where there is no such file."""
    named = {key: Path(method[key]) for key in WEIGHTS if method.get(key)}
    found = {key: f"sha256:{sha256_file(path)}" if path.is_file() else None for key, path in named.items()}
    return {**method, **found}
