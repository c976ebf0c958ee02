"""What a stranger's bundle says of its own size is held against its attestation and a bound before anything is read."""

from __future__ import annotations

import io
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle import layout as limits
from bundle.assembly import assemble
from bundle.attestation import check_field
from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.formats.parquet import CHUNK_PACKED, FIRST_DICTIONARY, FIRST_PAGE, ParquetError, _chunks, _struct
from bundle.layout import ATTESTATION, ENVELOPE, IMAGES, MODEL, OUTCOMES, WEIGHTS
from bundle.table.outcomes import OutcomeError, read_outcomes
from tests.audit.tampering import rewrite
from tests.bundle.test_verification import refusal
from tests.bundles import make_bundle

#: Room for an interpreter with NumPy and Arrow, and far less than any of these files would unpack to.
MEMORY = 2 << 30
OPENING = """
import resource, sys
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_bundle(sys.argv[1])
except HallmarkError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("master") / "bundle")


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


def opened(folder: Path) -> tuple[str, int]:
    """What a process of little memory says to a bundle, and how many MiB it took for it."""
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    sentence, grown = done.stdout.splitlines()
    return sentence, int(grown)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def replaced(folder: Path, name: str, column: Any) -> pa.Table:
    table = pq.read_table(folder / OUTCOMES)
    return table.set_column(table.column_names.index(name), name, column)


def test_a_text_that_every_row_repeats_is_not_unpacked(folder: Path) -> None:
    """50 kB of file, 1.2 GB of table."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), pa.array(["a" * (20 << 20)]))
    content = written(replaced(folder, "image_sha256", long), store_schema=False)
    assert len(content) < 100_000
    rewrite(folder, files={OUTCOMES: content}, recompute=False)
    sentence, grown = opened(folder)
    assert sentence == f"{OUTCOMES}: its pages unpack to more than 60 rows of 121 columns can take"
    assert grown < 100


def test_texts_that_are_no_digests_are_not_repeated(folder: Path) -> None:
    """Short enough for a page, and yet a million rows of it would be gigabytes."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), pa.array(["a" * 4000]))
    rewrite(folder, files={OUTCOMES: written(replaced(folder, "image_sha256", column))}, recompute=False)
    assert refusal(folder) == f"{OUTCOMES}: image_sha256: must be texts of 64 characters at most"


def test_more_rows_than_the_sample_are_not_unpacked(folder: Path) -> None:
    table = pq.read_table(folder / OUTCOMES)
    with pq.ParquetWriter(sink := io.BytesIO(), table.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(pa.concat_tables([table] * 50))
    rewrite(folder, files={OUTCOMES: sink.getvalue()}, recompute=False)
    assert refusal(folder) == f"{OUTCOMES}: has 60000 rows, the sample should have 60"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"a" * 5000] * 60, pa.binary(5000)),
        pa.array([[1, 2, 3]] * 60),
        pa.array([{"a": 1}] * 60),
        pa.array(["a"] * 60),
    ],
    ids=["wide", "lists", "structs", "texts"],
)
def test_columns_whose_values_have_no_fixed_width_are_refused(folder: Path, column: Any) -> None:
    rewrite(folder, files={OUTCOMES: written(replaced(folder, "label", column))}, recompute=False)
    assert refusal(folder).startswith(f"{OUTCOMES}: ")


def test_names_of_columns_that_are_no_utf_8_are_refused(folder: Path) -> None:
    content = written(pq.read_table(folder / OUTCOMES), store_schema=False)
    rewrite(folder, files={OUTCOMES: content.replace(b"image_sha256", b"image_sh\xff\xfe56")}, recompute=False)
    assert refusal(folder).startswith(f"{OUTCOMES}: not a readable outcome table ('utf-8' codec")


@pytest.mark.parametrize("options", [{}, {"row_group_size": 7}, {"use_dictionary": True, "data_page_version": "2.0"}])
def test_the_footer_is_read_as_pyarrow_reads_it(folder: Path, options: dict[str, Any]) -> None:
    content = written(pq.read_table(folder / OUTCOMES), **options)
    metadata = pq.read_metadata(io.BytesIO(content))
    columns = [
        metadata.row_group(group).column(place)
        for group in range(metadata.num_row_groups)
        for place in range(metadata.num_columns)
    ]
    assert [
        (chunk[FIRST_PAGE], chunk.get(FIRST_DICTIONARY), chunk[CHUNK_PACKED])
        for chunk in _chunks(memoryview(content), metadata)
    ] == [(item.data_page_offset, item.dictionary_page_offset, item.total_compressed_size) for item in columns]


def test_of_a_field_that_comes_twice_nobody_knows_which_one_arrow_takes() -> None:
    """Field 1 as 1, then, with its number written out, as 2."""
    assert _struct(memoryview(bytes([0x15, 2, 0x15, 4, 0])), 0) == ({1: 1, 2: 2}, 5)
    with pytest.raises(ParquetError, match="has a field twice"):
        _struct(memoryview(bytes([0x15, 2, 0x05, 2, 4, 0])), 0)


def test_damaged_tables_are_refused_in_one_sentence(folder: Path) -> None:
    """Every byte of the last kilobyte, and some of the others, changed: table or OutcomeError, and nothing else."""
    content = (folder / OUTCOMES).read_bytes()
    for place in [*range(0, len(content), 997), *range(len(content) - 1000, len(content), 7)]:
        for flipped in (0xFF, 1):
            changed = bytearray(content)
            changed[place] ^= flipped
            try:
                read_outcomes(bytes(changed), OUTCOMES)
            except OutcomeError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("name", [WEIGHTS, IMAGES, OUTCOMES, MODEL, ATTESTATION, ENVELOPE])
def test_files_without_end_are_not_read(folder: Path, name: str) -> None:
    """A sparse file takes no room on the disk, and all of the memory."""
    with (folder / name).open("ab") as file:
        file.truncate(200 << 30)
    sentence, grown = opened(folder)
    assert sentence.startswith(f"{name}: has {200 << 30} bytes, ")
    assert grown < 100


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            lambda it: it["files"][0].update(size=10**15),
            f"{WEIGHTS}: has {10**15} bytes, it may have {2 << 30} at most",
        ),
        (lambda it: it["sample"].update(size=10**9), "asks for 1000000000 rows of 121 columns; a table may have"),
        (lambda it: it["data"].update(shape=[10**6, 10**6, 3]), f"{IMAGES}: unpacks to 900000000000000 bytes"),
        (
            lambda it: it.update(attacks=[{**it["attacks"][0], "name": f"a{place}"} for place in range(5000)]),
            "asks for 60 rows of 40089 columns",
        ),
    ],
    ids=["file", "rows", "images", "columns"],
)
def test_attested_sizes_beyond_the_bounds_are_refused(
    folder: Path, edit: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    rewrite(folder, predicate=edit)
    assert sentence in refusal(folder)


@pytest.mark.parametrize("path", [("sample", "size"), ("files", 0, "size"), ("smoothing", 0, "estimation")])
def test_a_whole_number_has_one_spelling(folder: Path, path: tuple[str | int, ...]) -> None:
    """60.0 is 60 to JSON Schema, and other bytes: two digests for one statement."""

    def edit(predicate: Any) -> None:
        *above, last = path
        for part in above:
            predicate = predicate[part]
        predicate[last] = float(predicate[last])

    rewrite(folder, predicate=edit, recompute=False)
    assert "is not of type 'integer'" in refusal(folder)


def test_a_whole_number_has_one_spelling_in_a_stages_record_too() -> None:
    sample = {"size": 60, "of": 360, "seed": 0, "rule": "stratified draw"}
    check_field("sample", sample, "attacks.json")
    with pytest.raises(HallmarkError, match=r"attacks\.json: size: 60\.0 is not of type 'integer'"):
        check_field("sample", {**sample, "size": 60.0}, "attacks.json")


@pytest.mark.parametrize(
    ("bound", "most", "said"),
    [
        ("FILE_BYTES", 1000, f"{MODEL}: has "),
        ("IMAGES_BYTES", 5 * 60 * 64 - 1, f"{IMAGES}: unpacks to {5 * 60 * 64} bytes"),
        ("STATEMENT_BYTES", 4000, f"{ATTESTATION}: has "),
    ],
)
def test_what_would_be_refused_is_not_assembled(
    master: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, said: str
) -> None:
    made = open_bundle(master)
    parts: dict[str, Any] = {"model": made.model, "weights": made.weights, "outcomes": made.outcomes}
    monkeypatch.setattr(limits, bound, most)
    if bound == "STATEMENT_BYTES":
        monkeypatch.setitem(limits.BYTES, ATTESTATION, most)
    with pytest.raises(limits.HallmarkError, match=re.escape(said)):
        assemble(tmp_path / "other", **parts, images=made.images, predicate=made.predicate)
    assert not (tmp_path / "other").exists()


def test_whole_numbers_beyond_64_bits_are_not_assembled(master: Path, tmp_path: Path) -> None:
    made = open_bundle(master)
    parts: dict[str, Any] = {"model": made.model, "weights": made.weights, "outcomes": made.outcomes}
    predicate = {**made.predicate, "parameters": {**made.predicate["parameters"], "seed": 2**64}}
    with pytest.raises(HallmarkError, match="is beyond the whole numbers of 64 bits"):
        assemble(tmp_path / "other", **parts, images=made.images, predicate=predicate)
    assert not (tmp_path / "other").exists()


def test_a_claim_is_of_the_kind_that_claims_gives(folder: Path) -> None:
    statement = json.loads((folder / ATTESTATION).read_bytes())
    next(item for item in statement["predicate"]["bounds"] if item.get("radius") == 0.0)["radius"] = 0
    (folder / ATTESTATION).write_bytes(canonical_json(statement))
    assert refusal(folder).startswith(f"{ATTESTATION}: claim ")


def test_whole_numbers_beyond_64_bits_are_refused(folder: Path) -> None:
    """Floats hold none of 400 digits, and other readers of JSON none of 20."""
    rewrite(folder, predicate=lambda it: it["smoothing"][0].update(sigma=10**400), recompute=False)
    assert refusal(folder).endswith("is beyond the whole numbers of 64 bits")


def test_the_page_for_auditors_states_every_bound() -> None:
    page = re.sub(r"\s+", " ", (Path(__file__).parents[2] / "docs/audit.md").read_text(encoding="utf-8"))
    for bound in (*limits.BYTES.values(), limits.FILE_BYTES, limits.IMAGES_BYTES):
        assert f"{bound >> 30} GiB" in page if bound >> 30 else f"{bound >> 20} MiB" in page
    for count in (limits.ROWS, limits.COLUMNS, limits.VALUES):
        assert f"{count:,}" in page
