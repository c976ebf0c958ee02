"""docs/attestation.md, its JSON Schema and its example, held to the code.

After a change of the schema: describe the field in docs/attestation.md, then `python -m docs.build_schema docs`. After a
change of what an attestation holds: `python -m tests.bundle.test_schema_docs`, which writes the example again.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bundle.attestation import read_statement, schema
from bundle.bundle import open_bundle
from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.numbers.claims import KINDS
from bundle.numbers.intervals import clopper_pearson
from bundle.table.threats import Threat
from docs.build_schema import described_schema, field_sentences, fields, publish
from tests.bundles import make_bundle

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "attestation.md").read_text(encoding="utf-8")
EXAMPLE = DOCS / "attestation.example.json"


def make_example(folder: Path) -> Path:
    """A bundle of all that an attestation may hold: several norms, a union, corruptions, distances, a surface, bounds."""
    return make_bundle(folder, eps=(32,), others=(Threat("l2", 0.5),))


def example() -> dict[str, Any]:
    return read_statement(EXAMPLE.read_bytes(), EXAMPLE.name)


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The places of a document, without the indices of lists."""
    yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from paths(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, f"{path}[]")


def test_every_field_is_described_and_the_published_schema_is_current() -> None:
    """Write it again with `python -m docs.build_schema docs`."""
    published = json.loads((DOCS / "attestation.schema.json").read_text(encoding="utf-8"))
    assert published == described_schema(PAGE)
    assert [name for name, value in fields(published) if not value.get("description", "").strip()] == []


def test_no_field_is_overlooked() -> None:
    """The walk finds as many properties as the schema's text has, but those of its conditions."""
    known = dict(fields(schema()))
    assert {"_type", "subject[].digest.sha256", "claims[].value", "merged[].seed", "surface.losses"} <= known.keys()

    def count(part: Any) -> int:
        if isinstance(part, list):
            return sum(map(count, part))
        if not isinstance(part, dict):
            return 0
        inside = sum(count(item) for key, item in part.items() if key not in ("if", "then", "else", "properties"))
        return inside + sum(1 + count(item) for item in part.get("properties", {}).values())

    assert len(known) == count(schema())


def test_published_schema_judges_like_the_codes() -> None:
    published = json.loads((DOCS / "attestation.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(published)
    statement = example()
    assert Draft202012Validator(published).is_valid(statement)
    del statement["predicate"]["notTested"]
    assert not Draft202012Validator(published).is_valid(statement)


def test_sentences_are_sentences() -> None:
    for field, sentence in field_sentences(PAGE).items():
        assert re.fullmatch(r"[A-Z0-9`].+\.", sentence), field


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        (PAGE.replace("| `tier` |", "| `level` |"), "does not describe tier"),
        (PAGE.replace("| `claims[].value`,", "| `claims[].value`, `claims[].luck`,"), "does not know: claims[].luck"),
        (PAGE.replace("| `claims[].bound` |", "| `claims[].bound`, `tier` |"), "describes tier twice"),
    ],
)
def test_a_page_that_does_not_fit_is_refused(page: str, wrong: str) -> None:
    with pytest.raises(HallmarkError, match=re.escape(wrong)):
        described_schema(page)


def test_publish_writes_beside_the_page(tmp_path: Path) -> None:
    (tmp_path / "attestation.md").write_text(PAGE, encoding="utf-8")
    publish(tmp_path)
    assert (tmp_path / "attestation.schema.json").read_bytes() == (DOCS / "attestation.schema.json").read_bytes()


def test_example_is_what_the_code_writes_now(tmp_path: Path) -> None:
    """Of the schema, canonical, and with the places of a bundle that is made now; digests differ between machines.

    Write it again with `python -m tests.bundle.test_schema_docs`.
    """
    made = open_bundle(make_example(tmp_path / "bundle")).statement
    assert set(paths(example())) == set(paths(made))
    assert all(example()["predicate"][kind] for kind in KINDS)


def test_examples_shares_follow_from_their_counts() -> None:
    found = [item for kind in KINDS for item in example()["predicate"][kind] if "correct" in item]
    assert len(found) > 50
    for item in found:
        assert item["value"] == pytest.approx(item["correct"] / item["sampleSize"])
        if "interval" in item:
            expected = clopper_pearson(item["correct"], item["sampleSize"], item["confidence"])
            assert item["interval"] == pytest.approx(list(expected))


def test_the_pages_recomputation_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    assert '"BUNDLE"' in code and "assert" in code
    folder = make_bundle(tmp_path / "bundle", tier="quick", eps=(32,))
    exec(code.replace('"BUNDLE"', repr(str(folder))), {})


def test_the_page_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {"audit.md", "attestation.schema.json", "attestation.example.json"} <= set(links)
    assert [link for link in links if not link.startswith("https://") and not (DOCS / link).exists()] == []


def test_the_predicate_is_of_the_version_that_the_page_names() -> None:
    properties = schema()["properties"]
    version = properties["predicate"]["properties"]["schema"]["const"]
    assert properties["predicateType"]["const"].endswith(f":v{version}")
    assert f'`predicate.schema` is `"{version}"` and `predicateType` ends in `v{version}`' in PAGE


def _write_example() -> None:
    """Writes docs/attestation.example.json."""
    with TemporaryDirectory() as folder:
        write_whole(EXAMPLE, (make_example(Path(folder) / "bundle") / "attestation.json").read_bytes())


if __name__ == "__main__":
    run_command(_write_example)
