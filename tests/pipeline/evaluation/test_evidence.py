"""The evidence of an evaluation: its columns, its images, and what the exported file says about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pyautoattack
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bundle.served.runtime import OnnxClassifier
from bundle.table.outcomes import image_digests, margins
from bundle.table.threats import Threat
from pipeline.data.split import Split, stratified
from pipeline.evaluation import tiers as jobs
from pipeline.evaluation.columns import judge_reference, served_columns
from pipeline.evaluation.evidence import Evidence, gather_evidence, unions
from pipeline.evaluation.running import AttackFinding
from pipeline.evaluation.victim import Victim, draw
from pipeline.params import AttackSettings
from tests.pipeline.evaluation.networks import CLASSES, Linear, split

ATTACKS = ["noise", "fgsm", "pgd-10", "pgd-20", "pgd-50", "margin", "autoattack"]
THREATS = {"linf-4": ATTACKS, "linf-7.9": ATTACKS, "linf-2": ["margin"]}
SETTINGS = AttackSettings(tier="standard", eps_255=[4.0, 7.9], sweep=[0.5], images=24, batch_size=24, seed=2)
OF_A_VERDICT = ("prediction", "margin", "confidence")


@pytest.fixture(scope="module")
def test_split() -> Split:
    return split(60)


@pytest.fixture(scope="module")
def evidence(test_split: Split) -> Iterator[Evidence]:
    original = pyautoattack.AutoAttack._set_version

    def reduced(self: pyautoattack.AutoAttack, version: str = "standard") -> None:
        original(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = 10
        self.square.n_queries = 50

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyautoattack.AutoAttack, "_set_version", reduced)
        yield gather(test_split, SETTINGS)


def gather(test: Split, settings: AttackSettings, network: Linear | None = None, **options: Any) -> Evidence:
    victim, drawn = Victim((network or Linear()).train(), CLASSES), draw(test, settings)
    return gather_evidence(victim, drawn, settings, device=torch.device("cpu"), say=lambda line: None, **options)


def onnx_of(network: Linear) -> bytes:
    """The same linear network in the served form, written by hand."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "levels"], ["unit"]),
        helper.make_node("Sub", ["unit", "half"], ["centred"]),
        helper.make_node("Flatten", ["centred"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    constants = {
        "levels": np.float32(255),
        "half": np.float32(0.5),
        "weight": network.weight.detach().numpy().T.copy(),
    }
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 4, 4, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_the_columns_are_those_of_the_contract(evidence: Evidence):
    expected = {"index", "label", "image_sha256", *(f"reference/clean/{part}" for part in OF_A_VERDICT)}
    for threat, attacks in THREATS.items():
        for attack in attacks:
            expected |= {f"reference/{threat}/{attack}/{part}" for part in ("broken", *OF_A_VERDICT)}
    assert set(evidence.outcomes.columns) == expected
    assert len(evidence.outcomes) == 24
    assert evidence.outcomes.contradictions() == []


def test_the_sample_is_the_stratified_draw_and_rows_belong_together(evidence: Evidence, test_split: Split):
    rows = stratified(test_split.labels, 24, 2)
    assert evidence.outcomes["index"].tolist() == rows.tolist()
    assert evidence.outcomes["label"].tolist() == test_split.labels[rows].tolist()
    assert evidence.outcomes["image_sha256"].tolist() == image_digests(test_split.images[rows])
    assert np.array_equal(evidence.images["clean"], test_split.images[rows])
    assert evidence.description["sample"]["size"] == 24 and evidence.description["sample"]["of"] == 60


def test_clean_columns_against_the_network(evidence: Evidence):
    images = torch.from_numpy(evidence.images["clean"]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        logits = Linear()(images).numpy()
    assert evidence.outcomes["reference/clean/prediction"].tolist() == logits.argmax(1).tolist()
    expected = margins(logits, evidence.outcomes["label"])
    np.testing.assert_allclose(evidence.outcomes["reference/clean/margin"], expected, rtol=0, atol=1e-5)
    assert 0 < evidence.outcomes.clean_right("reference").sum() < 24


def test_images_are_on_the_grid_inside_the_ball(evidence: Evidence):
    assert set(evidence.images) == {"clean", *(f"{t}/{a}" for t, attacks in THREATS.items() for a in attacks)}
    for name, images in evidence.images.items():
        assert images.dtype == np.uint8 and images.shape == (24, 4, 4, 1)
        if name != "clean":
            levels = {"linf-4": 4, "linf-7.9": 7, "linf-2": 2}[name.split("/")[0]]
            distance = np.abs(images.astype(int) - evidence.images["clean"].astype(int)).reshape(24, -1).max(1)
            assert distance.max() <= levels
            # AutoAttack leaves an image as it was where it found nothing; the others always move it.
            assert distance.max() == levels and (name.endswith("autoattack") or distance.min() > 0)


def test_a_linear_network_is_broken_where_the_closed_form_says(evidence: Evidence):
    """Float images, box not counted: below the smallest radius no attack can succeed; far above it all do."""
    network = Linear()
    images = torch.from_numpy(evidence.images["clean"]).permute(0, 3, 1, 2) / 255
    labels = evidence.outcomes["label"]
    logits = network(images).detach().numpy()
    weight = network.weight.detach().numpy()
    for eps_255, name in ((4.0, "linf-4"), (7.9, "linf-7.9")):
        radius = np.array(
            [
                min((z[y] - z[k]) / np.abs(weight[y] - weight[k]).sum() for k in range(CLASSES) if k != y)
                for z, y in zip(logits, labels, strict=True)
            ]
        )
        impossible = radius > eps_255 / 255 * 1.0001
        for attack in ATTACKS:
            assert not evidence.outcomes[f"reference/{name}/{attack}/broken"][impossible].any()
        wrong_already = radius < 0
        for attack in ATTACKS:
            assert evidence.outcomes[f"reference/{name}/{attack}/broken"][wrong_already].all()


def test_more_steps_are_nested(evidence: Evidence):
    for threat in ("linf-4", "linf-7.9"):
        broken = [evidence.outcomes[f"reference/{threat}/pgd-{steps}/broken"] for steps in (10, 20, 50)]
        assert (broken[0] <= broken[1]).all() and (broken[1] <= broken[2]).all()


def test_what_was_run_is_described(evidence: Evidence):
    described = evidence.description
    assert [threat["name"] for threat in described["threats"]] == ["linf-2", "linf-4", "linf-7.9"]
    assert [(item["threat"], item["name"]) for item in described["attacks"]] == [
        (threat, attack) for threat, attacks in THREATS.items() for attack in attacks
    ]
    by_name = {item["name"]: item for item in described["attacks"]}
    assert described["tier"] == "standard" and described["unions"] == [] and described["distances"] == []
    assert described["corruptions"] is None  # without the exported file nothing is served
    assert described["surface"]["threat"] == "linf-4"
    assert {"planted", "deterministic"} <= {item["check"] for item in described["sanity"]}
    assert by_name["autoattack"]["harness"]["name"] == "pyautoattack"
    assert by_name["autoattack"]["settings"]["targets"] == CLASSES - 1
    assert by_name["pgd-20"]["settings"]["steps"] == 20 and by_name["pgd-20"]["flags"] == []
    assert described["settings"] == SETTINGS.model_dump()


def test_nothing_given_is_changed_and_a_second_run_is_the_same():
    given = split(30)
    images, labels, network = given.images.copy(), given.labels.copy(), Linear()
    weight = network.weight.detach().clone()
    quick = SETTINGS.model_copy(update={"tier": "quick", "images": None})
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        runs.append(gather(given, quick, network))
    assert np.array_equal(given.images, images) and np.array_equal(given.labels, labels)
    assert torch.equal(network.weight, weight) and network.weight.grad is None
    assert len(runs[0].outcomes) == 30 and "linf-4/autoattack" not in runs[0].images
    assert runs[0].outcomes.parquet() == runs[1].outcomes.parquet()
    assert all(np.array_equal(array, runs[1].images[name]) for name, array in runs[0].images.items())


def test_served_columns_are_what_the_file_answers(evidence: Evidence):
    """Every image of every attack, judged anew: against the classifier called by hand."""
    classifier = OnnxClassifier(onnx_of(Linear()), threads=1, device="cpu")
    labels = evidence.outcomes["label"]
    columns = served_columns(classifier, evidence.images, labels)
    expected = {f"served/clean/{part}" for part in OF_A_VERDICT}
    for name, images in evidence.images.items():
        logits = classifier.logits(images)
        np.testing.assert_allclose(columns[f"served/{name}/margin"], margins(logits, labels), rtol=0, atol=1e-6)
        if name == "clean":
            assert columns["served/clean/prediction"].tolist() == logits.argmax(1).tolist()
        else:
            expected |= {f"served/{name}/{part}" for part in ("broken", *OF_A_VERDICT)}
            assert columns[f"served/{name}/broken"].tolist() == (logits.argmax(1) != labels).tolist()
    assert set(columns) == expected
    assert evidence.outcomes.with_columns(columns).contradictions() == []
    assert columns["served/clean/prediction"].tolist() == evidence.outcomes["reference/clean/prediction"].tolist()


def test_the_reference_verdict_is_the_networks_whatever_the_batch():
    given = split(7)
    images = torch.from_numpy(given.images).permute(0, 3, 1, 2) / 255
    logits = Linear()(images).detach().numpy()
    for batch_size in (1, 3, 7):
        found = judge_reference(Linear(), images, given.labels, batch_size)
        assert found.predictions.tolist() == logits.argmax(1).tolist()
        np.testing.assert_allclose(found.margins, margins(logits, given.labels), atol=1e-6)


def test_every_norm_is_attacked_and_its_images_are_in_its_ball(test_split: Split):
    """l2 and l1 beside l∞, and alone; AutoAttack runs without Square on images this small, and says so."""
    several = SETTINGS.model_copy(update={"tier": "quick", "eps_255": [4.0], "eps_l2": [0.2, 0.5], "eps_l1": [1.0]})
    for chosen, names in (
        (several, ["linf-4", "l2-0.2", "l2-0.5", "l1-1"]),
        (several.model_copy(update={"eps_255": None, "eps_l2": None}), ["l1-1"]),
    ):
        found = gather(test_split, chosen)
        threats = [Threat.of(record) for record in found.description["threats"]]
        assert [threat.name for threat in threats] == names
        for threat in threats:
            for attack in ("pgd-10", "pgd-20", "pgd-50", "margin"):
                images = found.images[f"{threat.name}/{attack}"]
                assert threat.inside(found.images["clean"], images).all()
                assert not np.array_equal(images, found.images["clean"])
                broken = found.outcomes[f"reference/{threat.name}/{attack}/broken"]
                assert broken.any(), "a ball of this size breaks some"
        first = [threat.name for threat in threats if threat.name != "l2-0.5"]
        expected = [{"name": "union", "threats": first}] if len(first) > 1 else []
        assert found.description["unions"] == expected
    assert found.outcomes.contradictions() == []


@pytest.mark.parametrize(
    ("wanted", "main", "curve"),
    [
        (None, ["linf-4", "linf-8", "l2-1"], {"linf-2", "linf-6"}),  # a model from elsewhere: the first
        (Threat("linf", 8.0), ["linf-8", "linf-4", "l2-1"], {"linf-12"}),
        (Threat("linf", 6.0), ["linf-8", "linf-4", "l2-1"], {"linf-12"}),  # not attacked: the next that holds it
        (Threat("l2", 0.5), ["l2-1", "linf-4", "linf-8"], {"l2-0.5", "l2-1.5"}),
    ],
)
def test_everything_is_about_the_threat_that_the_model_should_withstand(
    wanted: Threat | None, main: list[str], curve: set[str], test_split: Split, monkeypatch: pytest.MonkeyPatch
):
    """The headline, the curve around it, the union, the checks and the surface; not the smallest radius of a list."""
    monkeypatch.setattr(jobs, "autoattack_job", lambda *_, **__: jobs.Job("none", lambda sample, keep: {}, {}))
    settings = AttackSettings(tier="standard", eps_255=[4, 8], eps_l2=[1], sweep=[0.5, 1.5], images=12, batch_size=12)
    found = gather(test_split, settings, wanted=wanted).description
    assert found["mainThreats"] == main
    assert {item["name"] for item in found["threats"]} - set(main) == curve
    (union,) = found["unions"]
    assert set(union["threats"]) == {next(name for name in main if name.startswith("linf")), "l2-1"}
    assert {item["threat"] for item in found["sanity"] if "threat" in item} == {main[0]}
    assert found["surface"]["threat"] == main[0]


def test_a_union_takes_the_smallest_radius_of_each_norm():
    balls = [Threat("linf", 8.0), Threat("linf", 16.0), Threat("l1", 2.0), Threat("l1", 12.0)]
    assert unions(balls) == [{"name": "union", "threats": ["linf-8", "l1-2"]}]
    assert unions(balls[:2]) == []


def test_parts_of_an_evaluation_add_up_what_square_broke():
    """Two parts whose counts raise no flag each do so together, and describe() judges one part by itself."""
    parts = [
        AttackFinding(Threat("l2", 0.5), "autoattack", torch.zeros(40, 1, 4, 4), {}, flags=["other"], square_broken=2)
        for _ in range(2)
    ]
    assert [part.describe()["flags"] for part in parts] == [["other"], ["other"]]
    whole = AttackFinding(Threat("l2", 0.5), "autoattack", torch.zeros(80, 1, 4, 4), {}, square_broken=4)
    assert len(whole.describe()["flags"]) == 1 and "5.00%" in whole.describe()["flags"][0]


def test_threat_names():
    assert Threat("linf", 7.9).name == "linf-7.9" and Threat("linf", 4.0).name == "linf-4"
