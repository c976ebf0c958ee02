"""open_bundle(): what a bundle must be, tried with bundles whose digests and claims were made to fit."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, NETWORK, OUTCOMES, REQUIRED, WEIGHTS
from bundle.numbers.claims import KINDS
from bundle.table.outcomes import Outcomes
from bundle.table.threats import Threat
from tests.audit.tampering import rewrite
from tests.bundles import make_bundle

Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("master") / "bundle")


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


def refusal(folder: Path) -> str:
    with pytest.raises(HallmarkError) as error:
        open_bundle(folder)
    return str(error.value)


def npz(arrays: dict[str, np.ndarray[Any, Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes the names for options
    return buffer.getvalue()


def with_columns(**columns: Any) -> Callable[[Outcomes], Outcomes]:
    return lambda table: table.with_columns({name.replace("__", "/"): value for name, value in columns.items()})


def without(name: str) -> Callable[[Outcomes], Outcomes]:
    return lambda table: Outcomes({key: values for key, values in table.columns.items() if key != name})


def test_a_bundle_opens_and_holds_what_was_checked(folder: Path) -> None:
    bundle = open_bundle(folder)
    shutil.rmtree(folder)
    assert bundle.version == bundle.digest[:12] == bundle.predicate["model"]["version"]
    assert len(bundle.outcomes) == len(bundle.images["clean"]) == 60
    assert [threat.name for threat in bundle.threats] == ["linf-16", "linf-32"]
    assert bundle.envelope is None


def test_rewriting_nothing_changes_nothing(folder: Path, master: Path) -> None:
    """The tool of the tests below writes the same bundle again where nothing is asked of it."""
    rewrite(folder)
    assert (folder / ATTESTATION).read_bytes() == (master / ATTESTATION).read_bytes()


@pytest.mark.parametrize("name", REQUIRED)
def test_every_files_absence_and_every_files_change_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(folder).startswith(f"{name}: ")
    (folder / name).unlink()
    assert refusal(folder).startswith(f"{name}: is missing")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "there is no such bundle folder" in refusal(tmp_path / "absent")


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    assert refusal(folder) == f"{WEIGHTS}: must be a plain file, or a link to one"


def set_threat(predicate: dict[str, Any]) -> None:
    """A ball of 32 levels under the name of one of 16; claims go on to agree with the table."""
    predicate["threats"][0].update(eps_255=32, levels=32)


def add_file_twice(predicate: dict[str, Any]) -> None:
    predicate["files"].append(predicate["files"][0])


def union(*threats: str) -> dict[str, Any]:
    return {"name": "union", "threats": list(threats)}


def failed(predicate: dict[str, Any], **told: Any) -> None:
    """A check that failed, and what is told of it otherwise."""
    predicate["sanity"][0].update({"statistic": 0.2, "outcome": "fail", "passed": False, **told})
    predicate["reliable"] = False


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (set_threat, "threat linf-16 is not what its norm and eps_255 say"),
        (add_file_twice, "files must describe exactly"),
        (lambda item: item["files"].pop(), "files must describe exactly"),
        (lambda item: item["files"][0].update(size=7), "the attestation says 7"),
        (lambda item: item["model"].update(version="0" * 12), "model.version is not the start"),
        (lambda item: item["attacks"].append(item["attacks"][0]), "attack linf-16/pgd-10 is there 2 times"),
        (lambda item: item["attacks"][0].update(name="all"), "linf-16/all: unknown threat or reserved name"),
        (lambda item: item["attacks"][0].update(threat="linf-9"), "linf-9/pgd-10: unknown threat or reserved name"),
        (lambda item: item["threats"].append(item["threats"][0]), "threat linf-16 is there 2 times"),
        (lambda item: item["smoothing"].append(item["smoothing"][0]), "smoothed-0.25 is there 2 times"),
        (lambda item: item["smoothing"][0].update(estimation=100), "successes must be 0 to 100"),
        (lambda item: item["smoothing"][0].update(alpha=0.01), "claim certified_accuracy"),
        (lambda item: item["smoothing"][0].update(sigma=0.5), "claim certified_accuracy"),
        (lambda item: item["sample"].update(size=61), "has 60 rows"),
        (lambda item: item["data"].update(classes=["0", "1"]), "label must be 0 to 1"),
        (lambda item: item["data"].update(shape=[8, 8, 3]), "clean must be uint8 (60, 8, 8, 3)"),
        (lambda item: item["network"].update(name="resnet18"), f"{NETWORK}: says another network"),
        (lambda item: item["claims"].pop(), "has 13 claims, the outcome table gives 14"),
        (lambda item: item["claims"].reverse(), "is not what the outcome table gives"),
        (lambda item: item["claims"][0].update(value=1.0), "claim clean_accuracy reference 1.0"),
        (lambda item: item["claims"][0].update(interval=[0.99, 1.0]), "claim clean_accuracy reference"),
        (lambda item: item["bounds"][0].update(classifier="linear"), "claim certified_accuracy linear"),
        (lambda item: item.pop("notTested"), "'notTested' is a required property"),
        (lambda item: item.update(notTested=[]), "notTested"),
        (lambda item: item.update(extra=1), "extra"),
        (lambda item: item["selection"].update(split="test"), "selection.split"),
        (lambda item: item["selection"].update(split="unknown"), "selection"),
        (lambda item: item["selection"].pop("epoch"), "'epoch' is a required property"),
        (lambda item: item.update(tier="slow"), "tier"),
        (lambda item: item.update(merged=[]), "merged"),
        (lambda item: item["worstClass"][0].update(confidence=0.95), "worstClass reference linf-16"),
        (lambda item: item["perClass"].pop(), "has 39 perClass, the outcome table gives 40"),
        (lambda item: item["corruptions"]["names"].pop(), "corruptions"),
        (
            lambda item: item.update(corruptions=None, corruptionAccuracy=[]),
            "column served/corruption/gaussian_noise-1",
        ),
        (lambda item: item.update(distances=[], minimumDistances=[]), "column reference/distance/cw"),
        (lambda item: item["distances"][0].update(name="fab"), "has no column reference/distance/fab"),
        (lambda item: item["distances"].append(item["distances"][0]), "distance cw is there 2 times"),
        (lambda item: item["attacks"].pop(), "column reference/linf-32/margin/broken"),
        (lambda item: item["unions"].append(union("linf-16", "l2-1")), "union union: there is no threat l2-1"),
        (lambda item: item["unions"].append(union("linf-16", "linf-32")), "must be of different norms"),
        (lambda item: item["unions"].append(union("linf-16")), "unions"),
        (lambda item: item["surface"].update(threat="l2-1"), "surface: there is no threat l2-1"),
        (lambda item: item["surface"]["losses"][2].pop(), "losses must be 5 rows of 5 numbers"),
        (lambda item: item["surface"].update(steps=4), "surface"),
        (lambda item: item["surface"].update(rows=[1200, 7]), "has no index 7, of which the attestation's surface is"),
        (lambda item: item["sanity"].append(item["sanity"][0]), "sanity check large_eps is there 2 times"),
        (lambda item: item["sanity"][0].update(threat="l2-1"), "sanity check large_eps: there is no threat l2-1"),
        (lambda item: item["sanity"][0].update(statistic=0.2), "large_eps: passed must say whether 0.2 <= 0.1"),
        (lambda item: item["sanity"][0].update(passed=False), "large_eps: passed must say whether 0 <= 0.1"),
        (
            lambda item: item["sanity"][0].update(outcome="fail"),
            "passed must be false exactly where the outcome is fail",
        ),
        (lambda item: failed(item, outcome="warn"), "passed must be false exactly where the outcome is fail"),
        (lambda item: failed(item, passed=True), "large_eps: passed must say whether 0.2 <= 0.1"),
        (lambda item: item.update(reliable=False), "reliable must be false exactly where"),
        (lambda item: failed(item) or item.update(reliable=True), "reliable must be false exactly where"),
    ],
)
def test_a_predicate_that_says_something_else_is_refused(folder: Path, edit: Edit, sentence: str) -> None:
    rewrite(folder, predicate=edit)
    message = refusal(folder)
    assert sentence in message
    assert len(message) < 400


def test_a_check_that_failed_makes_a_bundle_unreliable_and_one_that_warns_does_not(folder: Path) -> None:
    """Both verify: what is told is true."""
    rewrite(folder, predicate=lambda item: item["sanity"][0].update(outcome="warn"))
    assert open_bundle(folder).predicate["reliable"]
    rewrite(folder, predicate=failed)
    assert not open_bundle(folder).predicate["reliable"]


def test_a_model_from_elsewhere_has_no_epoch(folder: Path) -> None:
    rewrite(folder, predicate=lambda item: item.update(selection={"rule": "published weights", "split": "unknown"}))
    open_bundle(folder)


def leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every number of a list of records, as the container and the key in it."""
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], dict | list):
            yield from leaves(value[key])
        elif isinstance(value[key], int | float):
            yield value, key


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_may_be_another_one(folder: Path, kind: str) -> None:
    """Sixteen numbers of each list, drawn, each made a little smaller: the record is named."""
    master = json.loads((folder / ATTESTATION).read_bytes())
    numbers = len(list(leaves(master["predicate"][kind])))
    for chosen in random.Random(kind).sample(range(numbers), min(numbers, 16)):
        statement = copy.deepcopy(master)
        container, key = list(leaves(statement["predicate"][kind]))[chosen]
        container[key] -= 1 if isinstance(container[key], int) else 1e-6
        (folder / ATTESTATION).write_bytes(canonical_json(statement))
        message = refusal(folder)
        assert message.startswith(f"{ATTESTATION}: "), message
        assert any(name in message for name in (kind, "claim "))


def test_a_threat_without_attacks_is_refused(folder: Path) -> None:
    def drop(predicate: dict[str, Any]) -> None:
        predicate["attacks"] = [item for item in predicate["attacks"] if item["threat"] == "linf-16"]

    rewrite(folder, predicate=drop)
    assert "linf-32: no attack was run for it" in refusal(folder)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (with_columns(index=np.zeros(60, dtype=int)), "name every image once"),
        (with_columns(index=np.arange(-1, 59)), "name every image once"),
        (with_columns(image_sha256=["0" * 64] * 60), "clean row 0 is not the image"),
        (with_columns(label=np.full(60, 10)), "label must be 0 to 9"),
        (with_columns(label=np.zeros(60)), "label: must be there once, without gaps, and of its kind; is double"),
        (with_columns(served__clean__prediction=np.full(60, 3)), "served/clean/prediction contradicts its margins"),
        (with_columns(served__clean__margin=np.full(60, np.nan, np.float32)), "served/clean/prediction contradicts"),
        (with_columns(**{"smoothed-0.25__successes": np.full(60, 1001)}), "successes must be 0 to 1000"),
        (with_columns(**{"smoothed-0.25__radius": np.full(60, 1.0)}), "radius is not what the counts prove"),
        (with_columns(**{"smoothed-0.25__radius": np.full(60, np.nan)}), "radius is not what the counts prove"),
        (with_columns(served__clean__prediction=np.full(60, 10)), "served/clean/prediction must be 0 to 9"),
        (
            with_columns(**{"reference__linf-16__margin__prediction": np.full(60, -1)}),
            "margin/prediction must be 0 to 9",
        ),
        (with_columns(**{"served__corruption__fog-3__prediction": np.full(60, 10)}), "fog-3/prediction must be 0 to 9"),
        (with_columns(served__clean__confidence=np.full(60, 1.01)), "served/clean/confidence must be 0 to 1"),
        (with_columns(served__clean__confidence=np.full(60, np.nan)), "served/clean/confidence must be 0 to 1"),
        (with_columns(reference__distance__cw=np.full(60, -0.1)), "reference/distance/cw must be 0 or more"),
        (with_columns(reference__distance__cw=np.full(60, np.nan)), "reference/distance/cw must be 0 or more"),
        (with_columns(extra=np.zeros(60)), "column extra: the attestation names nothing that it would be of"),
        (without("served/corruption/fog-3/prediction"), "has no column served/corruption/fog-3/prediction"),
        (without("served/linf-16/margin/confidence"), "has no column served/linf-16/margin/confidence"),
    ],
)
def test_a_table_that_contradicts_itself_or_the_images_is_refused(
    folder: Path, edit: Callable[[Outcomes], Outcomes], sentence: str
) -> None:
    rewrite(folder, outcomes=edit, recompute=False)
    assert sentence in refusal(folder)


@pytest.mark.parametrize("setting", ["reference", "served"])
def test_a_verdict_without_its_margin_is_refused(folder: Path, setting: str) -> None:
    name = f"{setting}/linf-32/margin/broken"
    rewrite(folder, outcomes=lambda table: table.with_columns({name: ~table[name]}))
    assert refusal(folder) == f"{OUTCOMES}: {name} contradicts its margins"


def test_a_table_with_gaps_or_a_column_twice_is_refused(folder: Path) -> None:
    table = pq.read_table(folder / OUTCOMES)
    gap = table.set_column(1, "label", pa.array([None, *table.column("label").to_pylist()[1:]]))
    twice = table.append_column("label", table.column("label"))
    for changed, sentence in (
        (gap, "label: must be there once, without gaps"),
        (twice, "label: must be there once, without gaps"),
    ):
        sink = io.BytesIO()
        pq.write_table(changed, sink)
        rewrite(folder, files={OUTCOMES: sink.getvalue()}, recompute=False)
        message = refusal(folder)
        assert message.startswith(f"{OUTCOMES}: {sentence}")
        assert "\n" not in message


@pytest.mark.parametrize("name", [OUTCOMES, IMAGES, NETWORK])
@pytest.mark.parametrize("content", [b"nonsense", b"PK\x03\x04", b"PAR1PAR1", b"\x93NUMPY\x01\x00", b"{}\n"])
def test_files_that_cannot_be_read_are_refused_in_a_sentence(folder: Path, name: str, content: bytes) -> None:
    rewrite(folder, files={name: content}, recompute=False)
    assert refusal(folder).startswith(f"{name}: ")


def test_a_damaged_archive_whose_digest_fits_is_refused(folder: Path) -> None:
    """A byte here and there: a sentence, or, where the byte does not matter to any image, the same images."""
    content = (folder / IMAGES).read_bytes()
    before = open_bundle(folder).images
    for position in range(0, len(content), len(content) // 50):
        changed = bytearray(content)
        changed[position] ^= 0x5A
        rewrite(folder, files={IMAGES: bytes(changed)}, recompute=False)
        try:
            after = open_bundle(folder).images
        except HallmarkError as error:
            assert str(error).startswith(f"{IMAGES}: ")
        else:
            assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]\n",
        b"null\n",
        b'{"_type": NaN}\n',
        b'{"a": 1e999}\n',
        b"[" * 100_000,
        b'"\\ud800"\n',
        b"1" * 5000,
    ],
)
def test_an_attestation_that_is_none_is_refused_in_a_sentence(folder: Path, content: bytes) -> None:
    (folder / ATTESTATION).write_bytes(content)
    assert refusal(folder).startswith(f"{ATTESTATION}: ")


def test_an_attestation_has_one_spelling(folder: Path) -> None:
    """A repeated key would let two readers read two things."""
    content = (folder / ATTESTATION).read_bytes()
    repeated = content.replace(b'  "_type"', b'  "_type": "x",\n  "_type"', 1)
    for other in (repeated, content + b"\n", json.dumps(json.loads(content)).encode()):
        assert other != content
        (folder / ATTESTATION).write_bytes(other)
        assert "not in canonical form" in refusal(folder)
    for count in (1, -1):
        (folder / ATTESTATION).write_bytes(content.replace(b"\n", b"\r\n", count))
        assert "its line ends are CRLF" in refusal(folder)


def test_the_last_digits_of_an_interval_may_differ_and_no_more(folder: Path) -> None:
    """Another SciPy rounds otherwise; an attestation made with it still verifies."""

    def nudge(by: float) -> Edit:
        return lambda item: item["claims"][0].update(interval=[end + by for end in item["claims"][0]["interval"]])

    rewrite(folder, predicate=nudge(1e-12))
    open_bundle(folder)
    rewrite(folder, predicate=nudge(-1e-6))
    assert "claim clean_accuracy reference" in refusal(folder)


def test_the_network_is_compared_to_the_byte(folder: Path) -> None:
    network = json.loads((folder / NETWORK).read_bytes())
    rewrite(folder, files={NETWORK: json.dumps(network).encode()})
    assert "says another network" in refusal(folder)
    rewrite(folder, files={NETWORK: canonical_json({**network, "channels": 1.0})})
    assert "says another network" in refusal(folder)


def test_a_union_of_threats_of_different_norms_verifies(tmp_path: Path) -> None:
    bundle = open_bundle(make_bundle(tmp_path / "bundle", eps=(16, 32), others=(Threat("l2", 0.5),), tier="quick"))
    assert bundle.predicate["unions"] == [union("l2-0.5", "linf-16")]
    assert bundle.predicate["corruptionAccuracy"] == bundle.predicate["minimumDistances"] == []


def test_a_union_may_not_have_a_threats_name(folder: Path) -> None:
    """Its claim would stand beside the threat's own."""
    rewrite(
        folder, predicate=lambda item: item["unions"].append({"name": "linf-16", "threats": ["linf-16", "linf-32"]})
    )
    assert "union linf-16: a threat has this name" in refusal(folder)
