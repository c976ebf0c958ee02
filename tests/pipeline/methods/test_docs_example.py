"""docs/methods.md against the code: the example is one file that works, and the table is the registry's."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import pipeline.methods as methods
from bundle.errors import HallmarkError
from docs.draw_methods import HEAD, PICTURE, is_method, picture, table, tree, written, year
from pipeline.methods import method_class, method_names
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import assert_same_loss, build, cross_entropy, mean_square

PAGE = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
TABLES = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
ROWS = [row for row in TABLES if len(row) == 6]
FEATURES = [row for row in TABLES if len(row) == 3]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page's example as one more file of pipeline/methods/, under the name that the page gives it."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (stem,) = re.findall(r"`pipeline/methods/(\w+)\.py` it can be named", PAGE)
    (tmp_path / f"{stem}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    methods._registry.cache_clear()
    yield stem
    methods._registry.cache_clear()
    sys.modules.pop(f"pipeline.methods.{stem}", None)
    vars(methods).pop(stem, None)


def test_the_example_is_about_thirty_lines():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert 20 < sum(bool(line.strip()) for line in code.splitlines()) <= 34


def test_the_file_alone_makes_the_method_known(example: str):
    assert example in method_names() and method_class(example).name == example
    resolved = complete({"data": {"name": "digits"}, "method": {"name": example, "weight": 2.0}})
    assert resolved.method == {"name": example, "weight": 2.0}


def test_it_leaves_the_registry_again(example: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    methods._registry.cache_clear()
    assert example not in method_names()


def test_the_example_trains_for_a_step(example: str):
    """The images are in the ball, and SGD on the terms lowers their sum."""
    method, batch = build(example), by_hand.batch()
    images = method.perturb(batch)
    checks.assert_in_ball(images, batch)
    optimiser = torch.optim.SGD(method.trained(), lr=0.01)
    before = checks.total(batch, images)(method)
    before.backward()
    optimiser.step()
    method.after_step(batch, images)
    assert checks.total(batch, images)(method) < before


def test_the_example_keeps_what_every_method_keeps(example: str):
    checks.assert_crafting_leaves_all_alone(build(example), by_hand.batch())
    assert checks.passes_of(build(example), by_hand.batch()) == method_class(example).passes


def test_the_examples_loss_is_its_docstrings(example: str):
    batch = by_hand.batch()
    images = torch.rand_like(batch.images)

    def expected(method: methods.Method) -> torch.Tensor:
        logits = method.target(images)
        return cross_entropy(logits, batch.labels) + 0.5 * mean_square(logits, torch.zeros(()))

    assert_same_loss(build(example), expected, checks.total(batch, images))


def test_the_table_has_every_method_once_with_its_cost_and_guide():
    assert sorted(row[0].strip("`") for row in ROWS) == method_names()
    for name, forward, backward, guide, _, reconstructed in ROWS:
        method = method_class(name.strip("`"))
        assert (int(forward), int(backward)) == method.passes, name
        assert (guide == "yes") == method.needs_guide, name
        assert bool(reconstructed) == method.reconstructed, name


def test_the_table_and_the_tree_are_of_these_classes():
    assert written(PAGE) == PAGE, "python -m docs.draw_methods writes it again"
    assert PICTURE.read_text(encoding="utf-8") == picture(), "python -m docs.draw_methods draws it again"


def test_the_tree_has_every_method_below_what_it_inherits_from():
    places = tree()
    assert sorted(place.kind.name for place in places if is_method(place.kind)) == method_names()
    assert [place.row for place in places] == list(range(len(places)))
    for place in places:
        above = None if place.above is None else places[place.above]
        assert (place.depth == 0) == (above is None) and (above is None or issubclass(place.kind, above.kind))
    depths = {place.kind.__name__: place.depth for place in places}
    assert (depths["TRADES"], depths["LBGAT"], depths["AdaGAT"]) == (0, 1, 2)
    assert (year(method_class("trades")), year(method_class("standard")), year(method_class("regmix_d2r_cag"))) == (
        2019,
        None,
        None,
    )


def test_a_new_method_has_a_row_by_itself_and_a_reconstruction_must_say_of_what(example: str):
    assert f"| `{example}` | 11 | 11 | no | [Kannan et al. 2018](https://arxiv.org/abs/1803.06373) | |\n" in table(PAGE)
    bare = f"# A page\n\n{HEAD}| `mat` | 24 | 24 | no | | |\n\nMore.\n"
    with pytest.raises(HallmarkError, match="mat is a reconstruction; its row must say in its last column of what"):
        written(bare)


def test_the_tables_papers_are_the_methods():
    for name, *_, paper, _ in ROWS:
        numbers = re.findall(r"(?:arxiv\.org/abs/|openreview\.net/forum\?id=)([\w.]+)", paper)
        assert all(number in method_class(name.strip("`")).paper for number in numbers), name
        assert numbers or name in ("`standard`", "`regmix_d2r_cag`")


def test_every_method_has_a_section_with_one_formula():
    for name in method_names():
        (section,) = re.findall(rf"^### {name}\n(.*?)(?=^##)", PAGE, flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^    \S", section, flags=re.MULTILINE)) == 1, name


def test_every_feature_is_a_key_that_params_yaml_takes():
    assert len(FEATURES) == 10
    for keys, *_ in FEATURES:
        for section, key, value in re.findall(r"`(\w+)\.(\w+)(?:: ([\w.]+))?`", keys):
            chosen: dict = {"norm": "l2"} if key == "eps" else {}
            given = {section: {key: yaml.safe_load(value or "0.5"), **chosen}}
            data = {"name": "digits", **given.pop("data", {})}
            resolved = complete({"data": data, "method": {"name": "trades"}, **given})
            assert getattr(getattr(resolved, section), key) == yaml.safe_load(value or "0.5"), key


def test_what_is_asked_of_the_papers_names_settings_and_files_that_are_there():
    asked = (PICTURE.parent / "regmix-and-mat.md").read_text(encoding="utf-8")
    kinds = [method_class(name).Settings.model_fields for name in ("regmix", "mat", "mat_multinorm")]
    keys = set(re.findall(r"`method\.(\w+)", asked))
    assert len(keys) > 10 and keys <= {key for fields in kinds for key in fields}
    paths = re.findall(r"`((?:pipeline|results|tests)/[\w/.-]+)`", asked)
    assert len(paths) > 5 and [path for path in paths if not (PICTURE.parents[1] / path).exists()] == []
    for kind, name in re.findall(r"`(RegMix|RegMixAMR|MAT|MATMultinorm|Method)\.(\w+)`", asked):
        found = {
            each.__name__: each for each in (method_class(n) for n in ("regmix", "regmix_amr", "mat", "mat_multinorm"))
        }
        assert hasattr(found.get(kind, methods.Method), name), (kind, name)
