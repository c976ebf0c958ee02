"""Which release a version must not be worse than: the one that is named, or the last one of git's tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from audit.history import Committed, committed_attestations, missing_tags, unseen
from audit.versions import BUNDLE, RELEASES, Version, find_version, list_versions
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.gate.baseline import Baseline, Unseen
from bundle.gate.metrics import MetricError
from bundle.git import GitError


def find_baseline(
    bundle: Bundle, name: str | None, versions: Callable[[], Sequence[Version]] = list_versions, root: Path = Path()
) -> Baseline | Unseen | None:
    """The version of this name, or the last release before this bundle; None where it can be seen that there was none.

    A release is a git tag that holds an attestation: the newest one, or where the bundle's own attestation has a tag,
    the one before that. Unseen where git cannot tell: no repository, not the bundle's own, or not all of its tags.
    """
    if name is None:
        found = _last_release(bundle, root)
        if not isinstance(found, str):
            return found
        name = found
    if Path(name).is_dir():
        other = open_bundle(name)
        return Baseline(name, other.statement, other)
    version = find_version(name, versions())
    if version.statement is None:
        raise MetricError(f"{name}: cannot be the baseline: {version.refusal}")
    return Baseline(name, version.statement, open_bundle(version.folder) if version.folder else None)


def _last_release(bundle: Bundle, root: Path) -> str | Unseen | None:
    """The tag of the release before, why that cannot be told, or None where there is none."""
    try:
        committed = committed_attestations(root)
    except GitError as error:
        return Unseen(str(error))
    own = sha256_bytes(bundle.statement_bytes)
    tags = [item for item in committed if item.kind == "tag"]
    before = next((item for item in _before(tags, own) if _digest(item) != own), None)
    if before is None:
        ours = any(_digest(item) == own for item in committed)
        reason = unseen(root) or (None if ours else _elsewhere(bundle, root)) or missing_tags(root)
        return Unseen(reason) if reason else None
    if before.content is None:
        return Unseen(f"git does not have the attestation of tag {before.name}")
    return before.name


def _before(tags: Sequence[Committed], own: str) -> Sequence[Committed]:
    """The tags older than the first that holds the own attestation; all of them where none does."""
    digests = [_digest(item) for item in tags]
    return tags[digests.index(own) :] if own in digests else tags


def _digest(item: Committed) -> str | None:
    return None if item.content is None else sha256_bytes(item.content)


def _elsewhere(bundle: Bundle, root: Path) -> str | None:
    """That a bundle is none of the project in `root`, so that the project's tags say nothing of its releases."""
    path, project = bundle.path.resolve(), root.resolve()
    if path == project / BUNDLE or path.parent == project / RELEASES:
        return None
    return (
        f"{bundle.path} is no bundle of this folder, whose git history has no other release; name one with --baseline"
    )
