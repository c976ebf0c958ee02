"""The filters of a report and of results/compare.html, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.bundle import Bundle, open_bundle
from bundle.pages.explorer import explore
from bundle.pages.report import render_report
from tests.bundles import make_bundle
from tests.serving.browser import CHROMIUM, Tab, running_browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
COMPARE = Path(__file__).parents[3] / "results" / "compare.html"
VISIBLE = "[...document.querySelectorAll('{}')].filter((item) => item.checkVisibility()).length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield Tab(browser, 390)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("filters") / "bundle", rows=30))


def choose(tab: Tab, kind: str, place: int) -> None:
    tab.evaluate(f"document.querySelector('.by-{kind}').selectedIndex = {place - 1}")


def test_class_attack_and_verdict_filter_together(tab: Tab, bundle: Bundle, tmp_path: Path) -> None:
    found = explore(bundle.predicate, bundle.outcomes, bundle.images)
    path = tmp_path / "report.html"
    path.write_text(render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images), encoding="utf-8")
    tab.open(path.as_uri())
    assert (tab.evaluate(VISIBLE.format(".item")), tab.evaluate(VISIBLE.format(".seen"))) == (30, 30)
    for place in (2, len(found.attacks) + 1):
        choose(tab, "attack", place)
        for verdict, broken in ((2, True), (3, False)):
            choose(tab, "verdict", verdict)
            wanted = [item for item in found.images if item.attacked[place - 2].broken is broken]
            assert tab.evaluate(VISIBLE.format(".item")) == tab.evaluate(VISIBLE.format(".item .seen")) == len(wanted)
    choose(tab, "class", wanted[0].place)
    assert tab.evaluate(VISIBLE.format(".item")) == sum(item.label == wanted[0].label for item in wanted)


def test_the_served_column_is_whole_on_a_phone(tab: Tab, bundle: Bundle, tmp_path: Path) -> None:
    """Of the first threat; with several, the others are reached by scrolling."""
    path = tmp_path / "report.html"
    path.write_text(render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images), encoding="utf-8")
    tab.open(path.as_uri())
    cells = "[...document.querySelectorAll('.results tbody td:nth-child(2)')].filter((cell) => cell.matches('.served'))"
    ends = tab.evaluate(f"{cells}.map((cell) => cell.querySelector('.count').getBoundingClientRect().right)")
    assert len(ends) >= 4 and max(ends) <= tab.evaluate("document.documentElement.clientWidth")


def test_rows_are_sorted_filtered_and_compared(tab: Tab) -> None:
    tab.open(COMPARE.as_uri())
    tab.evaluate("document.getElementById('data').value = 'digits'")
    tab.evaluate("document.getElementById('data').dispatchEvent(new Event('input'))")
    rows = tab.evaluate(VISIBLE.format(".all tbody tr"))
    assert 0 < rows < tab.evaluate("rows.length")
    tab.evaluate("heads[4].querySelector('button').click()")
    numbers = "filter((row) => row.cells[4].dataset.value).map((row) => Number(row.cells[4].dataset.value))"
    assert tab.evaluate(f"[...body.rows].{numbers}") == sorted(tab.evaluate(f"rows.{numbers}"), reverse=True)


def test_two_rows_of_the_same_images_are_compared_image_by_image(tab: Tab) -> None:
    tab.open(COMPARE.as_uri())
    pick = "rows[{}].querySelector('input').click()"
    first, second = tab.evaluate("Object.keys(pairs)[0].split('-').map(Number)")
    for row in (second, first):
        tab.evaluate(pick.format(row))
    said = "document.getElementById('two').textContent"
    assert "image by image" in tab.evaluate(said) and " images won, " in tab.evaluate(said)
    tab.evaluate(pick.format(tab.evaluate("rows.length") - 1))  # a third takes the place of one
    assert tab.evaluate("rows.filter((row) => row.classList.contains('picked')).length") == 2
    assert "Not of the same images" in tab.evaluate(said)
