"""A release: gated, signed, put into BentoML's model store and tagged in git; or nothing of all that.

A bundle is signed in its place, or as a copy in releases/ where DVC owns the folder. The version that a release must not
be worse than is the one that is named, or the last one of git's tags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.verification import same_signature
from audit.versions import store
from audit.versions.find import BUNDLE, RELEASES, Version, find_version, list_versions
from audit.versions.history import COMMITTED, Committed, attestation_at, committed_attestations, missing_tags, unseen
from bundle import git
from bundle.bundle import Bundle, open_bundle
from bundle.digests import remove_folder, sha256_bytes, whole_folder, write_whole
from bundle.errors import HallmarkError
from bundle.folder import copy_bundle
from bundle.gate.gate import Baseline, Gate, Unseen, gate
from bundle.gate.policy import MetricError, Policy
from bundle.git import GitError
from bundle.layout import ATTESTATION, ENVELOPE
from bundle.pages.headline import headline, store_name
from bundle.pages.wording import percent
from bundle.signatures import key_id, read_private_key, sign, signing_time


@dataclass(frozen=True)
class Signed:
    """Where the signed bundle lies, by which key, and whether anything had to be written."""

    folder: Path
    version: str
    key_id: str
    written: bool


def sign_bundle(path: str | Path, key: str | Path) -> Signed:
    """Verifies a bundle and signs its attestation with key.pem.

    The out/bundle of a repository with dvc.yaml is left as it is, since DVC would delete an added file:
    releases/VERSION/ is made beside out/, whole or not at all. Any other folder gets its envelope in place. The same
    key signs the same bytes again without a change, and its first time stays; another signature that is already there is
    never replaced.
    """
    path = Path(path)
    bundle = open_bundle(path)
    envelope = sign(bundle.statement_bytes, key, signing_time())
    name = key_id(read_private_key(key).public_key())
    if (root := dvc_root(path)) is None:
        return Signed(path, bundle.version, name, _sign_in_place(bundle, envelope))
    target = Path(os.path.relpath(root)) / RELEASES / bundle.version
    return Signed(target, bundle.version, name, _release(bundle, envelope, target))


def dvc_root(path: Path) -> Path | None:
    """The repository whose pipeline writes this folder; None for a folder that is nobody's out/bundle."""
    for place in (Path(os.path.abspath(path)), path.resolve()):  # a link may lead into out/, and out/ to another disk
        root = place.parent.parent
        if place == root / "out" / "bundle" and (root / "dvc.yaml").is_file():
            return root
    return None


def _sign_in_place(bundle: Bundle, envelope: bytes) -> bool:
    if same_signature(bundle.envelope, envelope, bundle.statement_bytes):
        return False
    if bundle.envelope is not None:
        raise HallmarkError(f"{bundle.path / ENVELOPE}: another signature is there; remove it to sign anew")
    try:
        write_whole(bundle.path / ENVELOPE, envelope, new=True, aside=bundle.path.resolve().parent)
    except FileExistsError:  # somebody else signed it in the same instant
        return _sign_in_place(open_bundle(bundle.path), envelope)
    return True


def _release(bundle: Bundle, envelope: bytes, target: Path) -> bool:
    if os.path.lexists(target):
        _require_same(bundle, envelope, target)
        return False
    try:
        with whole_folder(target) as copy:
            copy_bundle(bundle.path, copy)
            # What is signed is the copy, so the copy is what must verify: the source may have changed meanwhile.
            if open_bundle(copy).statement_bytes != bundle.statement_bytes:
                raise HallmarkError(f"{bundle.path}: changed while it was copied; sign it again")
            write_whole(copy / ENVELOPE, envelope)
    except FileExistsError:  # somebody else released it in the same instant
        _require_same(bundle, envelope, target)
        return False
    return True


def _require_same(bundle: Bundle, envelope: bytes, target: Path) -> None:
    names = {item.name for item in target.iterdir()} if target.is_dir() else set[str]()
    for name in sorted({*bundle.files, ENVELOPE} | names):
        there = target / name
        if (
            name == ENVELOPE
            and there.is_file()
            and same_signature(there.read_bytes(), envelope, bundle.statement_bytes)
        ):
            continue
        expected = (bundle.path / name).read_bytes() if name in bundle.files else envelope if name == ENVELOPE else None
        if not (target / name).is_file() or (target / name).read_bytes() != expected:
            raise HallmarkError(f"{target}: is there already with another {name}; move it away to sign anew")


@dataclass(frozen=True)
class Release:
    """What a release made: the bundle's folder (the signed copy, where there is one), the store's tag, git's tag."""

    gate: Gate
    folder: Path
    stored: store.Stored
    tag: str
    commit: str

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.gate.bundle.version,
            "folder": self.folder.as_posix(),
            "bentoml": self.stored.tag,
            "tag": self.tag,
            "commit": self.commit,
            "gate": self.gate.describe(),
        }


def prepare(bundle: Bundle, key: Path | None) -> Bundle:
    """The bundle with the envelope that `key` will give it, so that a policy can ask who signs; nothing is written."""
    return bundle if key is None else replace(bundle, envelope=sign(bundle.statement_bytes, key))


def release(
    bundle: Bundle,
    tag: str,
    policy: Policy,
    *,
    key: Path | None = None,
    name: str | None = None,
    baseline: Baseline | Unseen | None = None,
    trusted: Sequence[Path] = (),
    root: Path = Path(),
) -> Release | Gate:
    """Releases a verified bundle under the git tag `tag`; returns the gate alone where the policy is not met.

    `name` is the store's (by default hallmark-DATA-METHOD), the version there is the model's. HEAD must hold this
    attestation as out/bundle/attestation.json. Everything is checked first; then signed, stored and tagged, and where a
    step fails, what was made before it is undone. A killed one goes on where it stopped. Raises HallmarkError,
    GitError among them.
    """
    signed = prepare(bundle, key)
    found = gate(signed, policy, baseline, trusted)
    if found.failed:
        return found
    store_tag = f"{name or store_name(bundle.predicate)}:{bundle.version}"
    labels = {"git-tag": tag, "attestation": sha256_bytes(bundle.statement_bytes), "model": bundle.digest}
    store.check_store(store_tag)
    stored = store.find(store_tag, signed, labels)
    commit = _check_git(bundle, tag, root)
    with ExitStack() as undo:
        folder = _sign(bundle, key, undo)
        if stored is None:
            stored = store.put(folder, store_tag, labels)
            undo.callback(store.remove, store_tag)
        # The copy is what will be served, so the copy is what must verify.
        if open_bundle(stored.folder).statement_bytes != bundle.statement_bytes:
            raise HallmarkError(f"{bundle.path}: changed while it was copied; release it again")
        _put_attestation(bundle, root, undo)
        git.ask(root, ["tag", "-a", tag, "-m", _message(found, store_tag), commit])
        undo.pop_all()
    return Release(found, folder, stored, tag, commit)


def _sign(bundle: Bundle, key: Path | None, undo: ExitStack) -> Path:
    if key is None:
        return bundle.path
    signed = sign_bundle(bundle.path, key)
    if signed.written and signed.folder.resolve() == bundle.path.resolve():
        undo.callback((signed.folder / ENVELOPE).unlink, missing_ok=True)
    elif signed.written:
        undo.callback(remove_folder, signed.folder)
    return signed.folder


def _put_attestation(bundle: Bundle, root: Path, undo: ExitStack) -> None:
    """Puts the attestation where git has it, if the working tree lacks it; HEAD holds the same bytes."""
    place = root / COMMITTED
    if not place.exists():
        undo.callback(place.unlink, missing_ok=True)
        write_whole(place, bundle.statement_bytes)


def _check_git(bundle: Bundle, tag: str, root: Path) -> str:
    """The commit that HEAD is; raises HallmarkError where it cannot carry the tag."""
    commit = git.ask(root, ["rev-parse", "--verify", "HEAD^{commit}"]).decode().strip()
    if git.run(root, ["check-ref-format", f"refs/tags/{tag}"]).returncode or tag.startswith("-"):
        raise HallmarkError(f"{tag}: is no name for a git tag")
    known = git.ask(root, ["tag", "--list"]).decode("utf-8", "replace").splitlines()
    if tag in known:
        raise HallmarkError(f"{tag}: is a git tag already; a release is never moved, so choose another name")
    git.ask(root, ["var", "GIT_COMMITTER_IDENT"])  # who tags must be known before anything is made
    shown = COMMITTED.removeprefix("./")
    place = root / COMMITTED
    if place.is_file() and place.read_bytes() != bundle.statement_bytes:
        raise HallmarkError(f"{shown}: is the attestation of another evaluation than {bundle.path / ATTESTATION}")
    committed = attestation_at(root, commit)
    if committed is None or committed.content != bundle.statement_bytes:
        state = "is not committed" if committed is None else "is another one in the last commit"
        raise HallmarkError(f"{shown}: {state}; `git add {shown}` and `git commit` first, so that the tag holds it")
    return commit


def _message(found: Gate, store_tag: str) -> str:
    top = headline(found.bundle.statement)
    robust = top["robust"]
    return (
        f"Hallmark release of model {top['version']}\n\n"
        f"clean {percent(top['clean']['served']['value'])}, under all attacks at {robust['threat']} "
        f"{percent(robust['served']['value'])} (served, n {top['n']}, tier {top['tier']})\n"
        f"model.onnx SHA-256 {top['digest']}\n"
        f"attestation.json SHA-256 {sha256_bytes(found.bundle.statement_bytes)}\n"
        f"policy SHA-256 {found.policy.sha256}, {len(found.rules)} rules met\n"
        f"BentoML model {store_tag}\n"
    )


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
