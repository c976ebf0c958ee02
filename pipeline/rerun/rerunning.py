"""A rerun from a verified bundle to its report; a stopped one goes on after its last finished part."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from bundle.served.runtime import OnnxClassifier
from pipeline.evaluation.from_bundle import RebuiltModel
from pipeline.evaluation.running import progress_line, worker_count
from pipeline.params import AttackSettings
from pipeline.rerun.conditions import Selection, Surroundings, code_differences, environment_differences
from pipeline.rerun.contradictions import compare
from pipeline.rerun.repetition import Repetition, repeat
from pipeline.rerun.report import RerunReport
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.environment import describe_environment, source_digest
from pipeline.stage import exclusive


def rerun(
    published: RebuiltModel,
    selection: Selection,
    settings: AttackSettings,
    classifier: OnnxClassifier,
    *,
    device: torch.device,
    threads: int,
) -> RerunReport:
    """Repeats what can be on the selected rows and holds it against the table."""
    bundle = published.bundle
    environment = describe_environment(device, threads)
    identity = {
        "rerun": published.attestation,
        "rows": selection.rows.tolist(),
        "settings": settings.model_dump(),
        "environment": environment,
        "source": source_digest(),
    }
    folder = cache_folder(identity)
    with exclusive(folder.with_suffix(".lock")):
        found = repeat(
            published,
            selection,
            settings,
            classifier,
            device=device,
            say=progress_line(),
            cache=Cache(folder),
            processes=worker_count(device, settings.tier, threads),
        )
        Cache(folder).remove()
    folder.with_suffix(".lock").unlink(missing_ok=True)
    here = {**environment, "judged_by": classifier.provider}
    surroundings = _surroundings(published, found, here)
    comparisons = compare(
        found,
        bundle.predicate,
        same=surroundings.same,
        whole=selection.whole,
        source=bundle.predicate["source"]["sha256"] == source_digest(),
    )
    return RerunReport(
        str(bundle.path),
        bundle.version,
        bundle.digest,
        published.attestation,
        bundle.class_names,
        selection,
        surroundings,
        found,
        comparisons,
    )


def _surroundings(published: RebuiltModel, found: Repetition, here: dict[str, Any]) -> Surroundings:
    predicate = published.bundle.predicate
    differences = [
        *environment_differences(predicate["environment"], here),
        *code_differences(predicate, found.records),
    ]
    then, now = (table["reference/clean/margin"] for table in (found.then, found.attacked))
    return Surroundings(differences, bool(np.array_equal(then, now)))
