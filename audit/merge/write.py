"""Merging: several bundles of one model become one, written whole and verified before it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.merge.join import Merged, Renaming, merge
from bundle.assembly import assemble
from bundle.bundle import Bundle, open_bundle
from bundle.digests import whole_folder
from bundle.errors import HallmarkError
from bundle.numbers.claims import ALL_ATTACKS, find_claim
from bundle.pages.wording import percent, threat_title
from bundle.table.outcomes import SETTINGS


@dataclass(frozen=True)
class Joined:
    """The merged bundle as it lies in its folder, what it was made of, and what had to be renamed."""

    bundle: Bundle
    parts: Sequence[Bundle]
    renamed: Sequence[Renaming]

    def changes(self) -> list[dict[str, Any]]:
        """By setting and threat or union: robust accuracy under all attacks in each part (None: not there) and now."""
        found: list[dict[str, Any]] = []
        predicate = self.bundle.predicate
        for setting in reversed(SETTINGS):  # served first: it is the one that is served
            for item in [*predicate["threats"], *predicate["unions"]]:
                before = [_robust_accuracy(part.predicate, setting, item) for part in self.parts]
                after = _robust_accuracy(predicate, setting, item)
                found.append({"setting": setting, "threat": item["name"], "parts": before, "merged": after})
        return found

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "folder": self.bundle.path.as_posix(),
            "version": self.bundle.version,
            "merged": self.bundle.predicate["merged"],
            "robustAccuracy": self.changes(),
            "renamed": [vars(item) for item in self.renamed],
            "signed": False,
        }

    def sentences(self) -> Iterator[str]:
        """The same in lines for people."""
        predicate, path = self.bundle.predicate, self.bundle.path
        yield f"Version {self.bundle.version}: {len(predicate['merged'])} evaluations merged in {path}"
        titles = {item["name"]: threat_title(item) for item in predicate["threats"]}
        titles |= {item["name"]: " or ".join(titles[name] for name in item["threats"]) for item in predicate["unions"]}
        for item in self.changes():
            before = " and ".join(_percent(value) for value in item["parts"])
            title = f"{item['setting']} {titles[item['threat']]}, all attacks"
            yield f"{title}: {before} → {_percent(item['merged'])}"
        for item in self.renamed:
            yield f"{item.kind} {item.old} of {item.bundle} is {item.new} here, since another one has its name"
        yield f"Signatures of the parts do not carry over: hallmark sign {path} --key KEY signs what was merged."


def merge_bundles(paths: Sequence[Path], target: Path) -> Joined:
    """Verifies the bundles, merges them, and writes the result to `target`, whole or not at all.

    Raises a HallmarkError that names the bundle where one does not verify or does not belong to the others, and where
    `target` is there and not an empty folder.
    """
    _check_target(paths, target)
    parts = [_open(path) for path in paths]
    merged = merge(parts)
    with whole_folder(target) as folder:
        _write(folder, parts[0], merged)
    return Joined(open_bundle(target), parts, merged.renamed)


def _write(folder: Path, first: Bundle, merged: Merged) -> None:
    assemble(
        folder,
        model=first.model,
        weights=first.weights,
        outcomes=merged.outcomes,
        images=merged.images,
        predicate=merged.predicate,
    )
    open_bundle(folder)


def _check_target(paths: Sequence[Path], target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise HallmarkError(f"{target}: is there already; a merged bundle goes into a new folder")
    for path in paths:
        if path.resolve() in target.resolve().parents:
            raise HallmarkError(f"{target}: lies in the bundle {path}, which would not verify any more")


def _open(path: Path) -> Bundle:
    try:
        return open_bundle(path)
    except HallmarkError as error:
        raise HallmarkError(f"{path}: does not verify: {error}") from None


def _robust_accuracy(predicate: Mapping[str, Any], setting: str, item: Mapping[str, Any]) -> float | None:
    """Robust accuracy under all attacks of a threat, or of a union where it is of the same threats."""
    if "threats" in item and item not in predicate["unions"]:
        return None
    claim = find_claim(predicate, "robust_accuracy", setting=setting, threat=item["name"], attack=ALL_ATTACKS)
    return None if claim is None else claim["value"]


def _percent(accuracy: float | None) -> str:
    return "not attacked" if accuracy is None else percent(accuracy)
