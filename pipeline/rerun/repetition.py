"""A bundle's evaluation once more: its attacks on its images with its own seeds, its images through its model.onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.pages.headline import headline_threat
from bundle.served.runtime import OnnxClassifier
from bundle.table.columns import proof_column
from bundle.table.outcomes import Outcomes
from bundle.table.threats import Threat
from pipeline.certification.program import UnprovableError
from pipeline.certification.radius import Search, describe, proved_radii
from pipeline.certification.smoothed import smoothed_columns
from pipeline.evaluation.columns import corruption_columns, served_columns
from pipeline.evaluation.evidence import attack_sample, on_device
from pipeline.evaluation.from_bundle import RebuiltModel
from pipeline.evaluation.reattacking import changed_settings
from pipeline.evaluation.tiers import GROUP
from pipeline.evaluation.victim import Drawn, Victim
from pipeline.params import AttackSettings, CertifySettings, validated
from pipeline.rerun.conditions import Selection
from pipeline.run.cache import Cache

Columns = dict[str, NDArray[Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Absent:
    """Something that the bundle states and that was not repeated, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Repetition:
    """What the bundle's table says of the rows, and what came out now.

    `attacked` has the columns of the attacks that were run again, in both settings, `replayed` the served ones of the
    bundle's own images, `others` those of corruptions, smoothed classifiers and proofs. `pixels` are the largest
    differences, in levels of 255, of the attacks' 8-bit images (n,). `records` describe the attacks that were run.
    """

    then: Outcomes
    attacked: Outcomes
    replayed: Outcomes
    others: Columns
    pixels: dict[str, NDArray[np.int64]]
    records: list[dict[str, Any]]
    absent: list[Absent] = field(default_factory=list)


def recorded_settings(published: RebuiltModel) -> AttackSettings:
    """The attacks' settings as the bundle records them, without the plugins that are not installed here.

    Raises HallmarkError where the bundle is of several evaluations, or does not say with which settings it was made.
    """
    where, predicate = published.bundle.path, published.bundle.predicate
    if predicate["merged"]:
        raise HallmarkError(f"{where}: was merged from {len(predicate['merged'])} evaluations; rerun each of them")
    recorded = predicate["parameters"].get("attack")
    if not isinstance(recorded, Mapping) or not isinstance(recorded.get("seed"), int):
        raise HallmarkError(f"{where}: does not record the seed and the settings of its attacks; it cannot be repeated")
    settings = changed_settings(predicate, {"seed": recorded["seed"]})
    installed = {plugin.name for plugin in entry_points(group=GROUP)}
    return settings.model_copy(update={"plugins": [name for name in settings.plugins if name in installed]})


def repeat(
    published: RebuiltModel,
    selection: Selection,
    settings: AttackSettings,
    classifier: OnnxClassifier,
    *,
    device: torch.device,
    say: Say,
    cache: Cache,
    processes: int = 1,
) -> Repetition:
    """Everything that the bundle lets anybody repeat, on the selected rows; what it does not is named in `absent`."""
    bundle, rows = published.bundle, selection.rows
    drawn, then = _drawn(published, rows), _rows_of(bundle.outcomes, rows)
    own = {name: array[rows] for name, array in bundle.images.items()}
    replayed = Outcomes(served_columns(classifier, own, drawn.labels))
    say(f"replayed {len(own)} sets of {len(rows)} images through model.onnx")
    others, left_out = _beside_attacks(published, drawn, classifier, device, say, cache)
    victim = Victim(published.network, len(bundle.class_names), model=bundle.model)
    victim, sample = on_device(victim, drawn, device)
    attacked = attack_sample(
        victim,
        sample,
        drawn,
        settings,
        wanted=Threat.of(headline_threat(bundle.predicate)),
        say=say,
        cache=cache,
        processes=processes,
    )
    records, unlike = _alike(bundle.predicate["attacks"], attacked.records)
    columns = attacked.columns | served_columns(classifier, attacked.images, drawn.labels)
    keys = [f"{item['threat']}/{item['name']}" for item in records]
    pixels = {key: _largest(own[key], attacked.images[key]) for key in keys}
    unrepeated = [*unlike, *left_out, *_never(bundle.predicate)]
    return Repetition(then, Outcomes(columns), replayed, others, pixels, records, unrepeated)


def _drawn(published: RebuiltModel, rows: NDArray[np.int64]) -> Drawn:
    drawn = published.drawn()
    return Drawn(drawn.images[rows], drawn.labels[rows], drawn.index[rows], drawn.of, drawn.seed, drawn.rule)


def _rows_of(outcomes: Outcomes, rows: NDArray[np.int64]) -> Outcomes:
    return Outcomes({name: values[rows] for name, values in outcomes.columns.items()})


def _largest(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The largest difference of a pixel value of each image (n,)."""
    return np.abs(one.astype(np.int64) - other).reshape(len(one), -1).max(axis=1)


def _alike(attested: list[dict[str, Any]], found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[Absent]]:
    """The attacks that were run as the bundle says, and why each of its others was not."""
    run = {(item["threat"], item["name"]): item for item in found}
    alike, absent = [], []
    for item in attested:
        what, now = f"attack {item['threat']}/{item['name']}", run.get((item["threat"], item["name"]))
        if now is None:
            absent.append(Absent(what, _why_not(item)))
        elif now["settings"] != item["settings"]:
            absent.append(
                Absent(what, f"it was run with other settings: {_changed(item['settings'], now['settings'])}")
            )
        else:
            alike.append(now)
    return alike, absent


def _why_not(attack: Mapping[str, Any]) -> str:
    name = attack["name"]
    if name.startswith("transfer-"):
        return "the network that its images are carried over from is not in the bundle"
    if name == "adaptive" or name.startswith("adaptive-"):
        return "the networks that were trained together are not in the bundle"
    if "entryPoint" in attack["settings"]:
        return f"a plugin, {attack['settings']['entryPoint']}, that is not installed here"
    return "with the bundle's settings this code does not run it"


def _changed(said: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    names = [name for name in sorted({*said, *found}) if said.get(name) != found.get(name)]
    return ", ".join(f"{name} {said.get(name)} there, {found.get(name)} here" for name in names)


def _beside_attacks(
    published: RebuiltModel, drawn: Drawn, classifier: OnnxClassifier, device: torch.device, say: Say, cache: Cache
) -> tuple[Columns, list[Absent]]:
    """Columns of corruptions, smoothed classifiers and proofs."""
    predicate, columns, absent = published.bundle.predicate, Columns(), list[Absent]()
    if (corruptions := predicate["corruptions"]) is not None:
        columns |= corruption_columns(
            classifier, drawn.images, drawn.index, seed=corruptions["seed"], say=say, cache=cache
        )
    certify = predicate["parameters"].get("certify")
    named = [item["name"] for item in (*predicate["smoothing"], *predicate["proofs"])]
    if named and certify is None:
        return columns, [Absent(name, "the bundle does not record the settings of its certification") for name in named]
    if named:
        settings = validated(CertifySettings, certify, "certify")
        proved, absent = _proved(published, drawn, settings, cache)
        columns |= proved
        if predicate["smoothing"]:
            columns |= smoothed_columns(
                published.network, drawn.images, drawn.index, settings, device, cache=cache, say=say
            )
    return columns, absent


def _proved(
    published: RebuiltModel, drawn: Drawn, settings: CertifySettings, cache: Cache
) -> tuple[Columns, list[Absent]]:
    """The column of proved radii, where the search is the one that is recorded."""
    columns, absent = Columns(), list[Absent]()
    for item in published.bundle.predicate["proofs"]:
        if settings.proof in (None, "none"):
            absent.append(Absent(item["name"], "the bundle's settings name no technique"))
            continue
        search = Search(settings.proof)
        if any(
            describe(search, item["eps_255"])[name] != item[name] for name in ("technique", "tolerance_255", "settings")
        ):
            absent.append(Absent(item["name"], "it was searched with other settings than this code has"))
            continue
        try:
            columns[proof_column(item["norm"])] = _radii(published, drawn, search, cache)
        except UnprovableError as reason:
            absent.append(Absent(item["name"], str(reason)))
    return columns, absent


def _radii(published: RebuiltModel, drawn: Drawn, search: Search, cache: Cache) -> NDArray[np.float64]:
    """Proved radii (n,). A search ends where nothing is proved of its first batch, which in a sample is another one."""
    if len(drawn) == len(published.bundle.outcomes):
        return proved_radii(published.network, drawn.images, drawn.labels, search, cache=cache)
    batches = [slice(start, start + search.batch_size) for start in range(0, len(drawn), search.batch_size)]
    return np.concatenate(
        [proved_radii(published.network, drawn.images[rows], drawn.labels[rows], search) for rows in batches]
    )


def _never(predicate: Mapping[str, Any]) -> Iterator[Absent]:
    """What nobody can repeat from a bundle, or is no verdict."""
    for item in predicate["distances"]:
        yield Absent(
            f"distances {item['name']}", "they are lengths, no verdicts; its images are repeated where it is an attack"
        )
    yield Absent(
        "sanity checks and loss surface", "they are about the attacks, no verdicts; pipeline.reattack runs them anew"
    )
    yield Absent("training, selection and data", "neither training images nor companions are in a bundle")
