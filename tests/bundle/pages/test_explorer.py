"""The explorer: every image with what each attack made of it, and filters that the style sheet alone does."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.bundle import Bundle, open_bundle
from bundle.pages import explorer
from bundle.pages.explorer import ATTACKS, CLASSES, RULES, explore
from bundle.pages.headline import attack_names, headline_threat
from bundle.pages.report import SHEET, STYLE, render_report
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("explorer") / "bundle", rows=30))


def pixels(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))))


def test_pictures_answers_and_verdicts_are_those_of_the_evidence(bundle: Bundle) -> None:
    threat = headline_threat(bundle.predicate)["name"]
    names = attack_names(bundle.predicate, threat)
    rows = {int(index): row for row, index in enumerate(bundle.outcomes["index"])}
    found = explore(bundle.predicate, bundle.outcomes, bundle.images)
    assert len(found.images) == found.of == 30
    for item in found.images:
        row = rows[item.index]
        np.testing.assert_array_equal(pixels(item.clean), bundle.images["clean"][row, ..., 0])
        assert [seen.place for seen in item.attacked] == [*range(2, len(names) + 2)]
        assert sum(seen.closest for seen in item.attacked) == 1
        for seen, name in zip(item.attacked, names, strict=True):
            attacked = bundle.images[f"{threat}/{name}"][row, ..., 0]
            shown = pixels(seen.picture) if seen.picture else bundle.images["clean"][row, ..., 0]
            np.testing.assert_array_equal(shown, attacked)
            answer = int(bundle.outcomes[f"served/{threat}/{name}/prediction"][row])
            assert (seen.answer, seen.broken) == (bundle.class_names[answer], answer != bundle.outcomes["label"][row])
        assert found.classes[item.place - 2] == item.label


def test_a_page_has_a_limit_and_the_closest_calls_come_first(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explore(bundle.predicate, bundle.outcomes, bundle.images)
    monkeypatch.setattr(explorer, "PICTURES", 20_000)
    some = explore(bundle.predicate, bundle.outcomes, bundle.images)
    assert 0 < len(some.images) < 30 and some.images == whole.images[: len(some.images)]
    held = [any(seen.broken for seen in item.attacked) for item in whole.images]
    assert held == sorted(held, reverse=True)  # broken images have negative margins


def test_too_many_classes_have_no_list(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "CLASSES", 9)
    assert explore(bundle.predicate, bundle.outcomes, bundle.images).classes == []


def test_there_is_a_rule_for_every_choice() -> None:
    assert STYLE == SHEET + RULES
    for kind, choices in (("by-class", CLASSES), ("by-attack", ATTACKS)):
        places = {int(place) for place in re.findall(rf"\.{kind} option:nth-child\((\d+)\)", RULES)}
        assert places >= {*range(2, choices + 2)}


def test_the_report_has_a_choice_for_each_list_and_no_script(bundle: Bundle) -> None:
    page = render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images)
    assert [page.count(f'<select class="by-{name}">') for name in ("class", "attack", "verdict")] == [1, 1, 1]
    assert page.count('<li class="item ') == 30 and "<script" not in page
    linked = set(re.findall(r'href="#([^"]+)"', page))
    assert {"short", "results", "proved", "explorer", "plots"} <= linked <= set(re.findall(r'id="([^"]+)"', page))


def test_the_training_is_drawn_with_the_chosen_epoch(bundle: Bundle, tmp_path: Path) -> None:
    page = render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images)
    assert "epoch 3 was chosen" in page and "epoch 2: clean 60.0 %, PGD-10 40.0 %, loss 1.5" in page
    without = {**bundle.predicate, "selection": {"rule": "x", "split": "unknown"}}
    assert "While it trained" not in render_report(without, bundle.digest, bundle.outcomes, bundle.images)
