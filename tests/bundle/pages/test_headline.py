"""Which threat "the" number of a model is of, for every reader: the main one, never a point of the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from audit.answers import evasion, flaws
from audit.difference import Difference
from audit.live.service import contradictions
from audit.merge.join import merge
from audit.recipes import Recipes
from audit.versions.find import autoattack, read_folder
from audit.versions.tables import print_version, print_versions
from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.gate.gate import Baseline, not_worse
from bundle.gate.pairing import Pair
from bundle.gate.policy import NotWorse
from bundle.pages.card import front_matter, render_card
from bundle.pages.gallery import choose
from bundle.pages.headline import headline, headline_threat, main_names, sweep_threats
from bundle.pages.report import render_report
from bundle.table.threats import Threat, answering
from serving.metrics import publish_model
from serving.model.trust import Trust
from serving.output.page import Page
from serving.output.robustness import explanations, robustness
from serving.output.versions import describe
from tests.audit.tampering import rewrite
from tests.bundle.table.test_threats import words
from tests.bundles import make_bundle

CURVE = (8.0, 16.0, 48.0)


def elsewhere(folder: Path, **options: Any) -> Bundle:
    """A model from elsewhere at 32/255, with a curve: it names no threat of a training."""
    return open_bundle(
        make_bundle(folder, **{"eps": (32,), "sweep": CURVE, "trained": None, "tier": "quick", **options})
    )


@pytest.fixture(scope="module", params=[True, False], ids=["named", "before"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With the field, and as bundles of before are, without it."""
    return elsewhere(tmp_path_factory.mktemp("headline") / "bundle", named=request.param)


def all_attacks(bundle: Bundle, threat: str = "linf-32") -> int:
    """How many images the served file has right under every attack of a threat, from the rows."""
    names = ["pgd-10", "margin"] if threat == "linf-32" else ["margin"]
    return int(bundle.outcomes.robust("served", threat, names).sum())


def test_the_headline_is_the_main_threat_and_no_point_of_the_curve(bundle: Bundle) -> None:
    assert main_names(bundle.predicate) == ["linf-32"]
    assert [item["name"] for item in sweep_threats(bundle.predicate)] == ["linf-8", "linf-16", "linf-48"]
    top = headline(bundle.statement)
    assert (top["robust"]["threat"], top["robust"]["served"]["correct"]) == ("linf-32", all_attacks(bundle))
    assert all_attacks(bundle) < all_attacks(bundle, "linf-16") < all_attacks(bundle, "linf-8")


def test_documents_state_it_at_the_main_threat(bundle: Bundle) -> None:
    page = words(render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images))
    assert f"l∞ 32/255, all attacks, served: {all_attacks(bundle)} of 60" in page
    card = render_card(bundle.predicate, bundle.digest)
    assert "| served, l∞ 32/255 | |" in card
    assert "Robust accuracy, l∞ 32/255, all attacks" in card and "Robust accuracy, l∞ 8/255" not in card
    assert front_matter(bundle.predicate, bundle.digest).count("Robust accuracy") == 2
    assert "| l∞ 8/255 | margin attack | served |" in card and "| l∞ 8/255 | all attacks" not in card
    assert "l∞ 32/255: " in evasion(bundle.predicate).text and "8/255" not in evasion(bundle.predicate).text
    assert "At l∞ 32/255 the class" in flaws(bundle.predicate).text
    assert choose(bundle.predicate, bundle.outcomes, bundle.images).threat == "l∞ 32/255"


def test_commands_state_it_at_the_main_threat(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    version = read_folder(bundle.path)
    print_versions([version])
    assert "at linf-32" in capsys.readouterr().out
    print_version(version)
    shown = capsys.readouterr().out
    assert shown.index("linf-32") < shown.index("linf-8 ") and "worst class" in shown
    assert "at linf-32: " in shown and "under attack at linf-32" in shown
    assert autoattack(bundle.predicate) is None  # none was run at 32/255


def test_the_service_states_it_at_the_main_threat(bundle: Bundle) -> None:
    document = robustness(bundle, {}, Trust(None, None))
    assert document["main_threats"] == describe(bundle, "here", served=True)["main_threats"] == ["linf-32"]
    said = explanations(bundle.predicate, bundle.class_names)
    assert {threat["threat"] for item in said.values() for threat in item["threats"]} == {"linf-32"}
    registry = CollectorRegistry()
    publish_model(bundle.predicate, bundle.digest, registry)
    labels = {"version": bundle.version, "setting": "served", "threat": "linf-32"}
    assert registry.get_sample_value("hallmark_main_robust_accuracy", labels) == all_attacks(bundle) / 60
    assert registry.get_sample_value("hallmark_main_robust_accuracy", {**labels, "threat": "linf-8"}) is None


def test_the_pages_column_leaves_out_a_version_that_met_its_threat_on_a_curve_alone(
    bundle: Bundle, tmp_path: Path
) -> None:
    other = elsewhere(tmp_path / "other", eps=(16,), sweep=(32.0,))
    versions = [describe(item, name, served=name == "here") for item, name in ((bundle, "here"), (other, "other"))]
    host = {"rows": 0, "moved": 0, "allowed": 0, "provider": "", "threads": 1, "fell_back": False}
    document = robustness(bundle, {**host, "attested": {"provider": None, "threads": None}}, Trust(None, None))
    table = Page(bundle).render(document, versions).split('id="versions"')[1]
    assert "l∞ 32/255, all attacks" in words(table)
    assert table.count("/60 · ") == 3, "clean of both, robust of the one that is about 32/255"


class Service:
    """Answers the documents of a service."""

    def __init__(self, bundle: Bundle, **changed: Any) -> None:
        self._bundle, self._changed = bundle, changed

    def robustness(self) -> dict[str, Any]:
        return {**robustness(self._bundle, {}, Trust(None, None)), **self._changed}

    def attestation(self) -> dict[str, Any]:
        return {"statement": self._bundle.statement}

    def versions(self) -> list[dict[str, Any]]:
        return []


def test_a_service_that_names_another_main_threat_is_contradicted(bundle: Bundle) -> None:
    sentence = "/robustness: main_threats is not what the attestation says"
    honest, flattering = Service(bundle), Service(bundle, main_threats=["linf-8"])
    assert sentence not in contradictions(honest, bundle)  # type: ignore[arg-type]  # speaks as a Client does
    assert sentence in contradictions(flattering, bundle)  # type: ignore[arg-type]


def test_two_models_are_compared_at_the_main_threat(bundle: Bundle, tmp_path: Path) -> None:
    """On the curve, at 4/255, the two are alike; at 32/255 the second answers less."""
    bundle = elsewhere(tmp_path / "bundle", sweep=(4.0,), named="mainThreats" in bundle.predicate)
    other = elsewhere(tmp_path / "other", sweep=(4.0,), seed=7, noise=0.2)
    found = Difference(Pair(bundle, other))
    assert found.deciding is not None and found.deciding.threat == "linf-32"
    assert found.deciding.value_b == all_attacks(other) / 60
    rule = not_worse(NotWorse(margin=0.1), other, Baseline("v1", bundle.statement, bundle))
    assert "served linf-32 all" in rule.name and not rule.passed
    curve = not_worse(NotWorse(margin=0.1, threat="linf-4"), other, Baseline("v1", bundle.statement, bundle))
    assert curve.passed, "what the headline must not be read from"


def test_not_worse_keeps_to_what_the_release_before_was_about(bundle: Bundle, tmp_path: Path) -> None:
    """A version that is about a smaller ball does not pass by it."""
    smaller = elsewhere(tmp_path / "smaller", eps=(8,), sweep=())
    rule = not_worse(NotWorse(margin=0.9), smaller, Baseline("v1", bundle.statement, bundle))
    assert (rule.passed, rule.measured) == (False, "this version has no such number")


def test_points_of_two_curves_decide_nothing(tmp_path: Path) -> None:
    a, b = (elsewhere(tmp_path / str(eps), eps=(eps,), sweep=(16.0,)) for eps in (32, 48))
    assert Pair(a, b).threats() == ["linf-16"]
    assert Difference(Pair(a, b)).deciding is None
    at_a = elsewhere(tmp_path / "c", eps=(48,), sweep=(32.0,))
    assert Pair(a, at_a).deciding() == "linf-32", "the first one's main threat, under the attack that both met"


def test_recipes_are_compared_at_the_main_threat(tmp_path: Path) -> None:
    a, b = (
        [elsewhere(tmp_path / f"{seed}-{noise}", seed=seed, noise=noise) for seed in (1, 2)] for noise in (0.1, 0.2)
    )
    found = Recipes(a, b).deciding
    assert found is not None and found.threat == "linf-32"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Attacked in full at 16 and 32/255."""
    return elsewhere(tmp_path_factory.mktemp("both") / "bundle", eps=(16, 32), sweep=(4.0,), named=False)


@pytest.mark.parametrize(
    ("attacked", "wanted", "name"),
    [
        ([16, 32], 32, "linf-32"),
        ([16, 32], 16, "linf-16"),
        ([16, 32], 20, "linf-32"),  # the smallest ball that holds the one trained for
        ([16, 32], 64, "linf-32"),  # none does: the largest
        ([16, 32], None, "linf-16"),
    ],
)
def test_a_training_whose_radius_was_not_attacked(
    attacked: list[float], wanted: float | None, name: str, both: Bundle
) -> None:
    """The pipeline chooses so, and so is a bundle of before read, whose curve begins at 4/255."""
    trained = None if wanted is None else Threat("linf", wanted)
    assert answering([Threat("linf", size) for size in attacked], trained).name == name
    settings = {"threat": {"norm": "linf", "eps_255": wanted}} if wanted else {}
    assert headline_threat({**both.predicate, "parameters": settings})["name"] == name


def test_a_norm_that_was_not_attacked_is_answered_by_the_first() -> None:
    attacked = [Threat("linf", 8), Threat("l2", 1), Threat("l2", 0.5)]
    assert answering(attacked, Threat("l1", 12)) == Threat("linf", 8)
    assert answering(attacked, Threat("l2", 0.4)) == Threat("l2", 0.5)


@pytest.mark.parametrize("parameters", [{}, {"threat": {}}, {"threat": {"norm": "linf", "eps_255": None}}])
def test_settings_of_before_that_say_no_radius_name_no_threat(parameters: dict[str, Any], both: Bundle) -> None:
    assert headline_threat({**both.predicate, "parameters": parameters})["name"] == "linf-16"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["linf-99"], "mainThreats: there is no threat linf-99"),
        (["linf-8", "linf-32"], "mainThreats: linf-8 met the margin attack alone, and others of its norm more attacks"),
        ([], "mainThreats: "),
        (["linf-32", "linf-32"], "mainThreats: "),
    ],
)
def test_main_threats_that_cannot_be_are_refused(names: list[str], sentence: str, tmp_path: Path) -> None:
    folder = elsewhere(tmp_path / "bundle").path

    def name_others(predicate: dict[str, Any]) -> None:
        predicate["mainThreats"] = names

    rewrite(folder, predicate=name_others)
    with pytest.raises(HallmarkError) as refused:
        open_bundle(folder)
    assert sentence in str(refused.value)


def test_merging_unites_the_main_threats_and_keeps_the_first_headline(tmp_path: Path) -> None:
    """A point of one's curve that the other attacked in full is a main one; bundles of before join too."""
    first = elsewhere(tmp_path / "a", named=False)
    second = elsewhere(tmp_path / "b", eps=(16,), sweep=(32.0,), attack_seed=3)
    assert merge([first, second]).predicate["mainThreats"] == ["linf-32", "linf-16"]
    assert merge([second, first]).predicate["mainThreats"] == ["linf-16", "linf-32"]
    lighter = elsewhere(tmp_path / "c", eps=(48,), sweep=(), attacks=("margin",))
    assert merge([lighter, second]).predicate["mainThreats"] == ["linf-16"], "48/255 met the margin attack alone"
