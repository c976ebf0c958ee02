"""The model card: front matter that parses, all numbers, and what was not measured."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle.bundle import Bundle, open_bundle
from bundle.pages.card import render_card
from bundle.pages.wording import interval, percent
from bundle.table.threats import Threat
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("bundle")))


def card(bundle: Bundle, **changes: Any) -> str:
    return render_card({**bundle.predicate, **changes}, bundle.digest)


def front(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("\n---\n")[0])


def test_card_is_the_bundles_own(bundle: Bundle) -> None:
    """Rendered again from the finished attestation it is the same file: no time, no file list in it."""
    assert card(bundle) == Path(bundle.path / "model-card.md").read_text(encoding="utf-8")


def test_front_matter_has_the_fields_and_the_headline_numbers(bundle: Bundle) -> None:
    fields = front(card(bundle))
    assert (fields["library_name"], fields["pipeline_tag"]) == ("onnx", "image-classification")
    assert fields["license"] and fields["tags"] and fields["datasets"] == ["digits"]
    fields = front(card(bundle, **unproved(bundle)))
    metrics = fields["model-index"][0]["results"][0]["metrics"]
    claims = [claim for claim in bundle.predicate["claims"] if claim.get("attack", "all") == "all"]
    assert [metric["value"] for metric in metrics] == pytest.approx([claim["value"] for claim in claims], abs=1e-6)
    assert {metric["type"] for metric in metrics} == {"accuracy", "robust_accuracy"}
    assert all("upper bound" in metric["name"] for metric in metrics if metric["type"] == "robust_accuracy")


#: Fields of a result and of its parts after hub-docs' modelcard.md; the first tuple is required.
MODEL_INDEX = {
    "task": (("type",), ("name",)),
    "dataset": (("type", "name"), ("config", "split", "revision", "args")),
    "metrics": (("type", "value"), ("name", "config", "args", "verified", "verifyToken")),
}


def test_model_index_is_in_the_hubs_format(bundle: Bundle) -> None:
    """Unknown or missing fields make the Hub refuse a push, and huggingface_hub a load."""
    fields = front(card(bundle))
    assert {"license", "license_name", "tags", "datasets", "metrics", "model-index"} <= fields.keys()
    (model,) = fields["model-index"]
    assert model.keys() == {"name", "results"} and re.fullmatch(r"[\w.-]+", model["name"])
    (result,) = model["results"]
    assert result.keys() == MODEL_INDEX.keys()
    parts = [("task", result["task"]), ("dataset", result["dataset"])]
    parts += [("metrics", metric) for metric in result["metrics"]]
    for kind, part in parts:
        required, optional = MODEL_INDEX[kind]
        assert {*required} <= part.keys() <= {*required, *optional}
    assert all(0 <= metric["value"] <= 1 and metric["verified"] is False for metric in result["metrics"])
    names = [(metric["type"], metric["name"]) for metric in result["metrics"]]
    assert len(set(names)) == len(names)
    assert fields["metrics"] == list(dict.fromkeys(kind for kind, _ in names))
    assert result["dataset"]["args"] == {"images": 60, "of": 360, "seed": 0, "sha256": "0" * 64}


def proved(bundle: Bundle) -> dict[str, Any]:
    """What a proof about the served classifier adds to a predicate."""
    bound = {
        **{"metric": "certified_accuracy", "classifier": "served", "norm": "linf", "eps_255": 4.0, "technique": "IBP"},
        **{"bound": "lower", "value": 0.25, "correct": 15, "sampleSize": 60, "interval": [0.15, 0.38]},
        "confidence": 0.95,
    }
    proof = {"name": "served-linf", "norm": "linf", "technique": "IBP", "arithmetic": "Bounds hold in real numbers."}
    return {"bounds": [*unproved(bundle)["bounds"], bound], "proofs": [proof], "brackets": []}


def unproved(bundle: Bundle) -> dict[str, Any]:
    """A predicate without proofs about the served classifier."""
    bounds = [bound for bound in bundle.predicate["bounds"] if bound["classifier"] != "served"]
    return {"bounds": bounds, "proofs": [], "brackets": []}


def test_proofs_about_the_served_classifier_stand_apart_from_the_smoothed_one(bundle: Bundle) -> None:
    text = card(bundle, **proved(bundle))
    own, other = text.index("## Proved for this classifier"), text.index("## Bounds, about another classifier")
    row = text.index("| l∞ 4/255 | IBP | 15 | 60 | 25.0 % | 15.0 to 38.0 % |")
    assert own < row < text.index("- served-linf: Bounds hold in real numbers.") < other
    assert text.index("| smoothed-0.25 |") > other
    assert "Proved for this classifier" not in card(bundle, **unproved(bundle))
    metrics = front(text)["model-index"][0]["results"][0]["metrics"]
    certified = [metric for metric in metrics if metric["type"] == "certified_accuracy"]
    assert [metric["name"] for metric in certified] == ["Certified accuracy, l∞ 4/255, IBP (lower bound)"]
    assert "certified_accuracy" in front(text)["metrics"]


def test_withheld_images_are_said_to_be(bundle: Bundle) -> None:
    private = {"scheme": "salted-merkle-v1", "root": "ab" * 32}
    assert "the test images are withheld" in card(bundle, privateEvidence=private)
    assert "withheld" not in card(bundle)


def test_every_claim_has_its_row(bundle: Bundle) -> None:
    text = card(bundle)
    for claim in [*bundle.predicate["claims"], *bundle.predicate["bounds"]]:
        if "correct" in claim:
            row = f"| {claim['correct']} | {claim['sampleSize']} | {percent(claim['value'])} | {interval(claim)} |"
            assert row in text


def test_tables_have_equal_columns(bundle: Bundle) -> None:
    """A hostile name must not end a cell; each run of table lines has one width."""
    runs = card(bundle, network={"name": "a|b\n| c |"}).replace(r"\|", "").split("\n\n")
    for run in runs:
        widths = {line.count("|") for line in run.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_threat_model_and_limits_are_said(bundle: Bundle) -> None:
    text = card(bundle)
    for key in ("goal", "knowledge", "capability", "life-cycle stage"):
        assert f"| {key} |" in text
    assert "upper bounds" in text and "another classifier" in text and "hallmark verify" in text
    for item in bundle.predicate["notTested"]:
        assert f"- {item}" in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a "quoted": name\n---\n# x', "\x7f\u2028\U0001f600"])
def test_hostile_names_neither_break_the_front_matter_nor_the_page(bundle: Bundle, name: str) -> None:
    text = card(bundle, data={**bundle.predicate["data"], "name": name})
    assert front(text)["datasets"] == [name]
    assert "<script>" not in text.split("\n---\n", 1)[1]


def test_failed_check_is_a_warning(bundle: Bundle) -> None:
    sanity = [{**bundle.predicate["sanity"][0], "passed": False, "outcome": "fail"}]
    text = card(bundle, sanity=sanity, reliable=False)
    assert text.index("**Unreliable.**") < text.index("**Warning.** Sanity check") and "**failed**" in text
    assert "**Warning.**" not in card(bundle) and "**Unreliable.**" not in card(bundle)


def test_numbers_of_the_second_rank_are_there(bundle: Bundle) -> None:
    text = card(bundle)
    found = {(item["setting"], item["threat"]): item for item in bundle.predicate["worstClass"]}
    worst = found["served", "linf-32"]
    assert f"| worst class | {worst['class']}: {percent(worst['value'])}, {worst['correct']} of" in text
    clean, attacked = (
        next(item for item in bundle.predicate["calibration"] if (item["setting"], item.get("threat")) == key)
        for key in (("served", None), ("served", "linf-32"))
    )
    assert f"| {percent(clean['value'])} clean, {percent(attacked['value'])} under attack |" in text
    assert f"| {percent(bundle.predicate['corruptionAccuracy'][-1]['value'])} over 15 corruptions" in text
    assert "| evaluation | standard tier: " in text and "Measured on 60 of 360 test images" in text


def test_a_union_is_named_by_its_threats(tmp_path: Path) -> None:
    both = open_bundle(make_bundle(tmp_path / "bundle", eps=(32,), others=(Threat("l2", 0.5),)))
    text = card(both)
    assert "| union of l2 0.5 and l∞ 32/255 | all attacks | served |" in text
    names = [metric["name"] for metric in front(text)["model-index"][0]["results"][0]["metrics"]]
    assert "Robust accuracy, union of l2 0.5 and l∞ 32/255, all attacks (served, upper bound)" in names


def test_what_was_joined_or_not_tried_is_said(bundle: Bundle) -> None:
    sources = [{"attestation": "3f" * 32, "tier": "thorough", "seed": 3}]
    text = card(bundle, merged=sources, corruptions=None, corruptionAccuracy=[])
    assert f"- SHA-256 {'3f' * 32}, thorough tier, seed 3" in text
    assert "| common corruptions, mean | not tried |" in text
