"""?explain=robustness: what was measured for the class of an answer, as the attestation has it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from bundle.bundle import Bundle, open_bundle
from bundle.numbers.intervals import clopper_pearson
from serving.exchange import Problem
from serving.output.robustness import explanations, wants_robustness
from tests.serving.pictures import digit, npy, png
from tests.serving.refusals import refused
from tests.serving.test_documents import check_schema

ROWS = npy(np.stack([digit(number)[..., None] for number in range(1200, 1220)]))


@pytest.fixture(scope="module")
def bundle(folders: Any) -> Bundle:
    return open_bundle(folders / "bundle")


def test_an_answer_carries_what_was_measured_for_its_class(client: TestClient, bundle: Bundle) -> None:
    plain = client.post("/predict", files={"image": png(digit())}).json()
    answer = client.post("/predict?explain=robustness", files={"image": png(digit())}).json()
    measured = answer.pop("robustness")
    assert answer == plain and measured["class"] == plain["class"] and measured["label"] == plain["label"]
    check_schema("Prediction", {**answer, "robustness": measured})
    rows = bundle.outcomes["label"] == plain["label"]
    right = bundle.outcomes.clean_right("served")[rows]
    assert measured["sampleSize"] == measured["clean"]["sampleSize"] == len(right)
    assert measured["clean"]["value"] == right.mean()
    assert measured["clean"]["interval"] == list(clopper_pearson(int(right.sum()), len(right)))
    for threat in measured["threats"]:
        robust = bundle.outcomes.robust("served", threat["threat"], ["pgd-10", "margin"])[rows]
        assert (threat["correct"], threat["sampleSize"]) == (int(robust.sum()), len(robust))
        assert threat["eps_255"] == float(threat["threat"].removeprefix("linf-"))
    assert [threat["threat"] for threat in measured["threats"]] == ["linf-16", "linf-32"]


def test_a_batch_has_one_entry_for_each_class_that_occurs(client: TestClient, bundle: Bundle) -> None:
    answer = client.post("/predict_batch?explain=robustness", files={"images": ROWS}).json()
    check_schema("Predictions", answer)
    assert set(answer["explanations"]) == {row["class"] for row in answer["predictions"]}
    assert answer["explanations"] == explanations(bundle.predicate, answer["explanations"])
    assert "explanations" not in client.post("/predict_batch", files={"images": ROWS}).json()


def test_one_class_of_each_threat_is_the_worst(bundle: Bundle) -> None:
    every = explanations(bundle.predicate, bundle.class_names)
    worst = {(threat["threat"], name) for name, item in every.items() for threat in item["threats"] if threat["worst"]}
    attested = [item for item in bundle.predicate["worstClass"] if item["setting"] == "served"]
    assert worst == {(item["threat"], item["class"]) for item in attested} and len(worst) == 2


def test_the_sentence_says_whose_average_it_is_and_where_it_is_of_few(bundle: Bundle) -> None:
    [found] = explanations(bundle.predicate, ["3"]).values()
    size = found["sampleSize"]
    assert 0 < size < 30
    assert found["sentence"] == (
        f"Averages over the {size} measured test images whose label is 3, first without an attack and then under every "
        "attack that was run; they say nothing about this one image, nor how often the answer itself is right. So few "
        "images say little: read the intervals."
    )
    predicate = deepcopy(dict(bundle.predicate))
    for item in predicate["perClass"]:
        item["sampleSize"] = 200
    assert explanations(predicate, ["3"])["3"]["sentence"].endswith("is right.")


def test_a_class_without_a_test_image_says_so(bundle: Bundle) -> None:
    predicate = {
        **bundle.predicate,
        "perClass": [item for item in bundle.predicate["perClass"] if item["class"] != "3"],
    }
    [found] = explanations(predicate, ["3"]).values()
    check_schema("Explanation", found)
    assert (found["sampleSize"], found["clean"], found["threats"]) == (0, None, [])
    assert found["sentence"] == "No image whose label is 3 was measured, so nothing is known of this class."


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("explain=gradients", "query: explain is 'gradients'; it can be robustness."),
        ("explain=", "query: explain is ''; it can be robustness."),
        ("explain=robustness&explain=robustness", "query: explain is given more than once; give it once."),
        ("top=5", "query: top is no parameter of this route; it has explain=robustness."),
        ("explain=robustness&x=%ff%00", "query: x is no parameter of this route; it has explain=robustness."),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
def test_another_query_is_refused(client: TestClient, path: str, query: str, detail: str) -> None:
    refused(client.post(f"{path}?{query}", files={"image": png(digit())}), 400, detail)


def test_a_query_is_no_question_where_it_is_empty() -> None:
    assert not wants_robustness(QueryParams(""))
    assert wants_robustness(QueryParams("explain=robustness"))
    with pytest.raises(Problem, match="no parameter"):
        wants_robustness(QueryParams("Explain=robustness"))


def test_a_refused_query_leaves_the_connection_usable(service: httpx.Client) -> None:
    """The body of the refused request was not read."""
    assert service.post("/predict?top=5", files={"image": bytes(3_000_000)}).status_code == 400
    answer = service.post("/predict?explain=robustness", files={"image": png(digit())}).json()
    assert answer["robustness"]["class"] == answer["class"]
