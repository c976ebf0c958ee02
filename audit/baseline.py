"""Which release a version must not be worse than: the one that is named, or the last one of git's tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from audit.history import committed_attestations
from audit.versions import Version, find_version, list_versions
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.gate.baseline import Baseline
from bundle.gate.metrics import MetricError


def find_baseline(
    bundle: Bundle, name: str | None, versions: Callable[[], Sequence[Version]] = list_versions, root: Path = Path()
) -> Baseline | None:
    """The version of this name, or the last release before this bundle; None where there was none.

    A release is a git tag that holds an attestation: the newest one, or where the bundle's own attestation has a tag,
    the one before that.
    """
    if name is None:
        own = sha256_bytes(bundle.statement_bytes)
        tags = [item for item in committed_attestations(root) if item.kind == "tag"]
        digests = [sha256_bytes(item.content) for item in tags]
        before = tags[digests.index(own) :] if own in digests else tags
        name = next((item.name for item in before if sha256_bytes(item.content) != own), None)
        if name is None:
            return None
    if Path(name).is_dir():
        other = open_bundle(name)
        return Baseline(name, other.statement, other)
    version = find_version(name, versions())
    if version.statement is None:
        raise MetricError(f"{name}: cannot be the baseline: {version.refusal}")
    return Baseline(name, version.statement, open_bundle(version.folder) if version.folder else None)
