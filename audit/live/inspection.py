"""The inspection of a service whose evidence was fetched and verified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audit.client import Client
from audit.live import findings
from audit.live.findings import Asked
from audit.live.questions import (
    IMAGES,
    Question,
    ask_square,
    drawn_rows,
    evidence_questions,
    fresh,
    noise,
    nudged,
    searched_rows,
    unseen,
)
from audit.live.report import BatchConsistency, Report, Square
from audit.live.service import Asker, Way, bar, contradictions
from audit.verification import TEST_SPLIT, Verification
from bundle.bundle import Bundle
from bundle.private import CLEAN
from bundle.served.replay import SELF_CHECK_ROWS, count_apart

if TYPE_CHECKING:
    from bundle.served.runtime import OnnxClassifier

#: Images of random levels where there are no others to say how many.
NOISE_ROWS = 64


@dataclass(frozen=True)
class Plan:
    """What to ask.

    `ways` of sending images; `rows`, the most of the evidence and of each other kind of images (None: as many as the
    evidence has); `data`, a folder like out/data, or None; `square`, queries per image (0: none); `seed` of all that is
    drawn.
    """

    ways: tuple[Way, ...]
    rows: int | None
    data: Path | None
    square: int
    seed: int


def inspect(client: Client, found: Verification, plan: Plan, others: Sequence[str]) -> Report:
    """Asks everything of a plan, and holds the answers against the bundle that the service handed out.

    `others` is the list to which the client adds answers that name another model. Raises ClientError where the service
    stops answering, or answers as no Hallmark service does.
    """
    bundle, model = found.bundle, load_model(found.bundle)
    assert client.digest is not None
    documents = contradictions(client, bundle)
    generator = np.random.default_rng(plan.seed)
    everything = _ask(client, bundle, model, plan.ways, _questions(bundle, plan, generator, model is not None))
    square = None
    if plan.square:
        square, ended = _square(client, bundle, model, plan, everything, generator)
        everything += ended
    return Report(
        url=client.url,
        digest=client.digest,
        signature=found.signature,
        seed=plan.seed,
        answers=client.answers,
        others=others,
        documents=documents,
        checks=list(findings.checks(bundle, everything)),
        accuracies=list(findings.accuracies(bundle, everything)),
        moved=list(findings.moved(bundle, everything)),
        fresh=list(findings.fresh(bundle, everything)),
        stability=list(findings.stability(bundle, everything)),
        batch=None if model is None else _batch_consistency(bundle, model, everything, generator),
        square=square,
        unchecked=list(_unchecked(bundle, plan, model is not None, square, everything)),
    )


def load_model(bundle: Bundle) -> OnnxClassifier | None:
    """The fetched model.onnx, ready to run on the CPU; None where ONNX Runtime is not installed."""
    try:
        from bundle.served.runtime import PATIENCE, OnnxClassifier
    except ImportError:
        return None
    return OnnxClassifier(bundle.model, device="cpu", seconds=PATIENCE)


def _questions(bundle: Bundle, plan: Plan, generator: np.random.Generator, model: bool) -> list[Question]:
    """Everything that is asked but Square; what only model.onnx can judge is left out where it cannot run."""
    split = plan.data if plan.data is not None and (plan.data / TEST_SPLIT).is_file() else None
    rows = drawn_rows(len(bundle.outcomes), plan.rows, generator)
    evidence = evidence_questions(bundle, rows, split)
    others = list(nudged(evidence, generator))
    unknown = fresh(bundle, split, len(rows), generator) if split is not None else None
    others += [unknown] if unknown is not None else []
    clean = next((item for item in [*evidence, *others]), None)
    if model and clean is not None:
        others += unseen(clean.images, generator)
    elif model:
        others.append(noise((plan.rows or NOISE_ROWS, *bundle.predicate["data"]["shape"]), generator))
    return [*evidence, *others]


def _ask(
    client: Client,
    bundle: Bundle,
    model: OnnxClassifier | None,
    ways: Sequence[Way],
    questions: Sequence[Question],
) -> list[Asked]:
    found: list[Asked] = []
    with bar("asking", len(ways) * sum(len(item.images) for item in questions), "rows") as advance:
        asker = Asker(client, bundle.class_names, advance)
        for question in questions:
            logits = None if model is None else model.logits_in_batches(question.images)
            found += [Asked(question, way, asker.ask(question.images, way), logits) for way in ways]
    return found


def _batch_consistency(
    bundle: Bundle, model: OnnxClassifier, everything: Sequence[Asked], generator: np.random.Generator
) -> BatchConsistency | None:
    """Whether model.onnx answers images of each kind alone as it does in a batch; None where none were asked about."""
    questions = list({item.question.name: item.question for item in everything}.values())
    if not questions:
        return None
    most = -(-SELF_CHECK_ROWS // len(questions))
    images = np.concatenate([item.images[drawn_rows(len(item.images), most, generator)] for item in questions])
    return BatchConsistency(len(images), count_apart(model, images, bundle.predicate))


def _square(
    client: Client,
    bundle: Bundle,
    model: OnnxClassifier | None,
    plan: Plan,
    everything: Sequence[Asked],
    generator: np.random.Generator,
) -> tuple[Square | None, list[Asked]]:
    """What Square found, and the answers to the images that it ended with; nothing where no image is answered right."""
    clean = next((item for item in everything if item.question.exact and item.question.name == CLEAN), None)
    if clean is None or clean.question.rows is None:
        return None, []
    places = searched_rows(clean.answers.labels == bundle.outcomes["label"][clean.question.rows], generator)
    if not len(places):
        return None, []
    images, rows = clean.question.images[places], clean.question.rows[places]
    with bar("Square", len(places) * plan.square, "queries") as advance:
        asker = Asker(client, bundle.class_names, advance)
        found, ended = ask_square(asker, bundle, images, rows, plan.square, plan.seed)
    return found, _ask(client, bundle, model, plan.ways, [ended])


def _unchecked(
    bundle: Bundle, plan: Plan, model: bool, square: Square | None, everything: Sequence[Asked]
) -> Iterator[str]:
    """What could not be checked, or was not asked for, a sentence each."""
    names = {item.question.name for item in everything}
    if not model:
        runtime = "ONNX Runtime is not installed here (pip install onnxruntime)"
        yield f"Whether unseen images are answered as model.onnx answers them: {runtime}."
    if CLEAN not in names:
        yield "Clean images of the evidence: they are withheld; --data with the test split has them."
    if bundle.evidence == "private":
        yield "Adversarial images, and so robust accuracy: they are withheld."
    if plan.data is None:
        yield "Clean images outside the evidence: --data names a folder that has some."
    elif "fresh" not in names:
        yield f"Clean images outside the evidence: {plan.data} has none in {TEST_SPLIT}."
    if not plan.square:
        yield f"An attack through HTTP: --square QUERIES tries up to {IMAGES} images."
    elif square is None:
        yield "An attack through HTTP: there is no image that is answered right."
