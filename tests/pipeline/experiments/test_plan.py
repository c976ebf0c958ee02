"""Plans: what is read, what is refused and in which words, and what makes two runs the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.errors import HallmarkError
from pipeline.experiments import plan as run_module
from pipeline.experiments.plan import load_plan, nested
from pipeline.experiments.verdicts import asked_of
from pipeline.methods import method_class, method_names
from pipeline.params.reading import read_value
from tests.pipeline.experiments.samples import small, write_plan

#: PGD-AT with AWP is there as PGD-AT with the setting.
AS_A_SWITCH = {"pgd_at_awp"}
ROOT = Path(__file__).resolve().parents[3]


def refusal(tmp_path: Path, *entries: str) -> str:
    with pytest.raises(HallmarkError) as refused:
        load_plan(write_plan(tmp_path / "plan.yaml", *entries))
    return str(refused.value).replace(str(tmp_path / "plan.yaml"), "PLAN")


def test_the_projects_plan_can_be_read_and_is_in_order_of_worth():
    runs = load_plan(ROOT / "results" / "plan.yaml")
    assert [run.name for run in runs[:3]] == ["resnet18-regmix", "resnet18-fgsm_pgk", "resnet18-d2r_cag"]
    assert runs[0].params.attack.eps_255 == [8.0, 16.0] and runs[0].params.attack.tier == "standard"
    assert runs[0].images == 1000 and runs[0].params.train.epochs == 95
    assert all(run.split == "validation" for run in runs if run.name.startswith("ablation-regmix"))


def test_the_first_seed_of_every_experiment_comes_before_the_second_of_any(tmp_path: Path):
    plan = write_plan(tmp_path / "plan.yaml", small("one", seeds=[0, 4]), small("two"))
    assert [run.key for run in load_plan(plan)] == ["one-0", "two-0", "one-4"]


def test_a_list_under_a_heading_is_worked_off_before_the_next(tmp_path: Path):
    entries = [small("one", seeds=[0, 4]), small("two"), small("three")]
    (tmp_path / "plan.yaml").write_text("first:\n- {}\n- {}\nlast:\n- {}\n".format(*entries))
    assert [run.key for run in load_plan(tmp_path / "plan.yaml")] == ["one-0", "two-0", "one-4", "three-0"]


def test_the_plan_for_a_cpu_begins_with_its_eleven_runs():
    runs = load_plan(ROOT / "results" / "plan-cpu.yaml")[:11]
    assert {run.params.train.epochs for run in runs[:7]} == {30} and {run.params.train.epochs for run in runs[7:]} == {
        15
    }
    assert {(run.params.network.name, run.params.train.precision, run.params.threads) for run in runs} == {
        ("resnet20", "bf16", 1)
    }
    assert [run.seed for run in runs if run.name == "resnet20-regmix"] == [0, 1, 2]


def test_the_plan_for_a_cpu_has_every_method_that_is_made_against_attacks():
    """Certified and smoothed training are measured by what is proved; a network without defence is every table's floor."""
    runs = load_plan(ROOT / "results" / "plan-cpu.yaml")
    made = {name for name in method_names() if not method_class(name).for_certificates}
    assert made - {run.params.method["name"] for run in runs} == {"standard"} | AS_A_SWITCH
    epochs = {run.params.train.epochs for run in runs if run.params.data.name == "cifar100"}
    assert epochs == {30} and len([run for run in runs if run.params.data.name == "cifar100"]) == 4
    (peers,) = [run for run in runs if run.params.method.get("peers") == 3]
    assert peers.suite == "papers", "with PGD-100"


def test_the_plan_of_several_norms_has_the_rivals_on_the_generalists_terms():
    """One ball for all: the same radii are trained for and attacked."""
    runs = {run.key: run.params for run in load_plan(ROOT / "results" / "plan-norms.yaml")}
    first = runs["generalist-0"]
    for name in ("max", "avg", "msd", "e_at", "ramp"):
        for seed in range(3):
            rival = runs[f"{name}-{seed}"]
            assert (rival.threat, rival.attack, rival.train) == (first.threat, first.attack, first.train)
            assert [rival.method[key] for key in ("eps_l2", "eps_l1")] == [
                first.method[key] for key in ("eps_l2", "eps_l1")
            ]


def test_what_is_attacked_with_decides_the_result_and_not_the_weights(tmp_path: Path):
    def run(**more: object):
        return load_plan(write_plan(tmp_path / "plan.yaml", small("one", shard=10, **more)))[0]

    (plain, papers, limited) = (run(), run(suite="papers"), run(limits="{margin: 20}"))
    stronger = run(settings={"attack.restarts": 2})
    assert len({item.digest for item in (plain, papers, limited, stronger)}) == 4
    assert len({item.training for item in (plain, papers, limited, stronger)}) == 1
    assert run(settings={"train.epochs": 3}).training != plain.training


@pytest.mark.parametrize(
    ("threat", "name", "asked"),
    [
        ("linf-8", "pgd", None),
        ("linf-8", "autoattack", 1000),
        ("linf-16", "autoattack", 500),
        ("linf-16", "margin", 2000),
        ("linf-8", "transfer-guide", 750),
        ("linf-8", "margin", 0),
    ],
)
def test_the_smallest_limit_that_applies_holds(threat: str, name: str, asked: int | None):
    limits = {"autoattack": 1000, "linf-16": 2000, "linf-16/autoattack": 500, "transfer": 750, "linf-8/margin": 0}
    assert asked_of(limits, threat, name) == asked


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{settings: {}}", "PLAN: experiment 1: name: is missing"),
        ("{name: a, settings: {}, sedes: [1]}", "PLAN: a: sedes: is not a key here; did you mean seeds?"),
        (small("a", seeds=[0, -1]), "PLAN: a: seeds.1: must be ≥ 0, got -1"),
        (small("a", seeds=[1, 1]), "PLAN: a: seeds: must list each seed once, got [1, 1]"),
        (
            small("a", images=30, shard=20),
            "PLAN: a: images: must be a multiple of shard, got 30 and 20; or whole: false",
        ),
        (small("a", split="train"), "PLAN: a: split: must be one of 'test' or 'validation', got 'train'"),
        (small("a", settings={"method.name": "regmiks"}), "PLAN: a: method.name: must be one of"),
        (small("a", settings={"method.weight": -1}), "PLAN: a: method.weight: must be ≥ 0, got -1"),
        (small("a", settings={"seed": 1}), "PLAN: a: settings.seed: is said by seeds; take it out here"),
        (small("a", settings={"data.path": "x"}), "PLAN: a: settings.data.path: is said by --data; take it out here"),
        (small("a", limits="{fab: 20}"), "PLAN: a: limits.fab: must be one of adaptive, autoattack"),
        (small("a", limits="{linf-8: 250}"), "PLAN: a: limits.linf-8: must be one of"),
        (
            small("a", images=20, shard=10, limits="{linf-32/pgd: 25}"),
            "PLAN: a: limits.linf-32/pgd: must be a multiple of shard, got 25 and 10",
        ),
        (
            small("a", settings={"train": "{epochs: 1}"}),
            "PLAN: a: settings.train: write its keys with dots, train.epochs",
        ),
    ],
)
def test_a_wrong_entry_is_named_in_a_sentence(tmp_path: Path, entry: str, sentence: str):
    assert refusal(tmp_path, entry).startswith(sentence)


def test_two_experiments_of_one_name_are_refused(tmp_path: Path):
    assert (
        refusal(tmp_path, small("a"), small("a")) == "PLAN: a: there are two experiments of this name; give one another"
    )


def test_a_plan_that_is_absent_or_no_list_is_refused(tmp_path: Path):
    with pytest.raises(HallmarkError, match="there is no such plan"):
        load_plan(tmp_path / "plan.yaml")
    (tmp_path / "plan.yaml").write_text("name: a")
    with pytest.raises(HallmarkError, match="must be a list of experiments"):
        load_plan(tmp_path / "plan.yaml")


def test_dotted_keys_nest_and_contradictions_are_refused():
    assert nested({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
    for keys in ({"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}):
        with pytest.raises(HallmarkError, match="write only one of both"):
            nested(keys)
    assert read_value("1e-3") == 0.001 and read_value("true") is True


def test_the_digest_is_of_what_decides_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not of the code, the folders, the first stage's size or the device; of the method, the seed and the shards."""

    def digest(data: str = "datasets", **more: object) -> str:
        return load_plan(write_plan(tmp_path / "plan.yaml", small("a", **more)), data)[0].digest

    first = digest()
    monkeypatch.setattr(run_module, "ROOT", tmp_path)
    assert digest() == first
    assert digest("elsewhere") == first and digest(images=500) == first
    assert digest(settings={"device": "auto"}) == first
    others = [
        digest(seeds=[1]),
        digest(shard=125),
        digest(split="validation"),
        digest(settings={"method.weight": 1.0}),
        digest(settings={"threads": 2}),
    ]
    assert len({first, *others}) == 6


def test_settings_that_are_null_do_not_change_the_digest():
    settings = {"train": {"epochs": 3}}
    assert run_module.settings_digest({"train": {"epochs": 3, "new": None}}, "test", 250) == run_module.settings_digest(
        settings, "test", 250
    )
