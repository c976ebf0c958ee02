"""A bundle's own evaluation repeated: nothing differs where it is honest, and a lie is found where `verify` sees none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from audit.verification import verify
from bundle.assembly import pack_images
from bundle.bundle import open_bundle
from bundle.digests import sha256_bytes
from bundle.layout import ATTESTATION, IMAGES, WEIGHTS
from bundle.table.outcomes import Outcomes
from pipeline.rerun.__main__ import main as rerun
from pipeline.rerun.conditions import environment_differences, select
from pipeline.rerun.contradictions import Repeated
from tests.audit.tampering import Predicate, rewrite, unbreak
from tests.pipeline.published import make_published

HALLMARK = Path(sys.executable).with_name("hallmark")
ATTACK = "linf-16/margin"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return place / make_published(Path("out"), fitted=True)


@pytest.fixture
def bundle(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the bundle alone, in a folder that is now the current one."""
    shutil.copytree(original, tmp_path / "a bundle")
    monkeypatch.chdir(tmp_path)
    yield Path("a bundle")


def asked(capsys: pytest.CaptureFixture[str], path: Path, **options: Any) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `--json`."""
    capsys.readouterr()
    code = 0
    try:
        rerun(path, as_json=True, **{"device": "cpu", **options})
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, json.loads(capsys.readouterr().out)


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        [HALLMARK, "rerun", *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


def broken_rows(path: Path, name: str = ATTACK) -> NDArray[np.intp]:
    """Rows that are right in both settings when clean, and broken in both by an attack."""
    table = open_bundle(path).outcomes
    right = table.clean_right("reference") & table.clean_right("served")
    return np.flatnonzero(right & table[f"reference/{name}/broken"] & table[f"served/{name}/broken"])


def test_an_honest_bundle_comes_out_again_to_the_last_verdict(bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    done = command(bundle, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "every verdict came out again (16 of 16 images" in done.stdout
    assert "the same as attested, and the clean margins come out to the last bit" in done.stdout
    assert "Images that differ" not in done.stdout and "twin" in done.stderr
    for name in ("noise", "pgd-10", "pgd-50", "margin"):
        assert done.stdout.count(f"│{name}") >= 2, "in both threats"
    for unrepeated in ("sanity checks and loss surface", "training, selection and data"):
        assert f"- {unrepeated}: " in done.stdout
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert not list(Path("checkpoints").iterdir())


def test_every_number_of_the_document(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = asked(capsys, bundle)
    assert (code, found["outcome"], found["images"]) == (0, "identical", [])
    assert found["environment"] == {"same": True, "differences": [], "cleanMarginsToTheBit": True}
    assert found["sample"] == {"size": 16, "of": 16, "seed": None, "seedFrom": None}
    attacked = [item for item in found["comparisons"] if item["kind"] == "attacked"]
    predicate = open_bundle(bundle).predicate
    assert [item["name"] for item in attacked[::2]] == [
        f"{item['threat']}/{item['name']}" for item in predicate["attacks"]
    ]
    claimed = {
        (f"{item['threat']}/{item['attack']}", item["setting"]): item["value"]
        for item in predicate["claims"]
        if "attack" in item
    }
    for item in attacked:
        assert item["accuracyThen"] == item["accuracyNow"] == claimed[item["name"], item["setting"]]
        assert item["exact"] and not item["differ"] and item["largestPixelDifference"] in (0, None)
    for item in found["allRepeated"]:
        assert item["accuracyNow"] == claimed[f"{item['threat']}/all", item["setting"]]
    assert {item["kind"] for item in found["comparisons"]} == {"attacked", "replayed", "smoothed", "proved"}


def test_a_sample_gives_the_verdicts_of_the_whole_run(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = asked(capsys, bundle, sample=7, seed=3)
    rows = select(16, 7, 3, "").rows
    assert (code, found["outcome"]) == (0, "identical")
    assert found["sample"] == {"size": 7, "of": 16, "seed": 3, "seedFrom": "--seed"}
    assert found["drawnByBatch"] == [] and "at most 4 of all 16" in found["scope"][0]
    table = open_bundle(bundle).outcomes
    for item in found["comparisons"]:
        if item["kind"] == "attacked":
            threat, _, attack = item["name"].partition("/")
            assert item["accuracyNow"] == table.robust(item["setting"], threat, [attack])[rows].mean()


def test_rows_are_drawn_by_the_seed_or_the_attestations_digest() -> None:
    for seed in (None, 5):
        first, again = (select(200, 20, seed, "00000010ab") for _ in range(2))
        assert np.array_equal(first.rows, again.rows) and len(set(first.rows.tolist())) == 20
        assert first.seed == (16 if seed is None else 5) and not first.whole
        assert np.array_equal(first.rows, np.sort(first.rows)) and first.rows.max() < 200
    assert not np.array_equal(select(200, 20, 5, "").rows, select(200, 20, 6, "").rows)
    for sample in (None, 16, 99):
        assert select(16, sample, 1, "").whole and select(16, sample, 1, "").seed is None


def test_a_table_that_says_less_was_broken_passes_verify_and_not_rerun(bundle: Path) -> None:
    """Verdicts, margins, predictions, claims and digests agree with each other, and not with the model."""
    rows = broken_rows(bundle)[:1]
    for setting in ("reference", "served"):
        rewrite(bundle, outcomes=unbreak(f"{setting}/{ATTACK}", rows))  # type: ignore[arg-type]
    assert verify(bundle).signature.state == "unsigned"
    done = command(bundle, "--device", "cpu")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CONTRADICTED: " in done.stdout and "Traceback" not in done.stderr
    table = open_bundle(bundle).outcomes
    listed = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "BEYOND" in line]
    assert {int(line[0]) for line in listed} == set(table["index"][rows].tolist())
    assert {line[2].strip() for line in listed} == {
        f"{ATTACK}, reference", f"{ATTACK}, served", f"{ATTACK}, served (replayed)"
    }  # fmt: skip
    assert all("right +" in line[3] and "-" in line[4] for line in listed)


def weakened(rows: NDArray[np.intp]) -> Any:
    """The attack is said to have found nothing on these rows: clean images in place of what it found."""

    def edit(table: Outcomes) -> Outcomes:
        columns = {}
        for setting in ("reference", "served"):
            for part in ("prediction", "margin", "confidence"):
                values = table[f"{setting}/{ATTACK}/{part}"].copy()
                values[rows] = table[f"{setting}/clean/{part}"][rows]
                columns[f"{setting}/{ATTACK}/{part}"] = values
            broken = table[f"{setting}/{ATTACK}/broken"].copy()
            broken[rows] = False
            columns[f"{setting}/{ATTACK}/broken"] = broken
        return table.with_columns(columns)

    return edit


def weaken(path: Path, rows: NDArray[np.intp]) -> None:
    images = {name: array.copy() for name, array in open_bundle(path).images.items()}
    images[ATTACK][rows] = images["clean"][rows]
    rewrite(path, outcomes=weakened(rows), files={IMAGES: pack_images(images)})


def test_images_weaker_than_the_attacks_are_found_by_the_attack_alone(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model answers these images as the table says; only the attack itself, run again, finds the others."""
    rows = broken_rows(bundle)
    assert len(rows) > 2, "the network of this test is one that an attack breaks"
    weaken(bundle, rows)
    verify(bundle)
    code, found = asked(capsys, bundle)
    beyond = [item for item in found["comparisons"] if item["contradicted"]]
    assert code == 1 and found["outcome"] == "contradicted"
    assert [(item["kind"], item["name"], item["setting"]) for item in beyond] == [
        ("attacked", ATTACK, "reference"),
        ("attacked", ATTACK, "served"),
    ]
    for item in beyond:
        assert (item["brokenHere"], item["rightHere"], item["differ"]) == (len(rows), 0, len(rows))
    assert beyond[1]["largestPixelDifference"] > 0
    index = open_bundle(bundle).outcomes["index"]
    assert {item["index"] for item in found["images"]} == set(index[rows].tolist())


def test_another_environment_does_not_cover_a_lie(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An honest bundle of another processor is within the tolerance; a few false rows are not."""

    def elsewhere(predicate: Predicate) -> None:
        predicate["environment"]["cpu_instructions"] = "NEON"
        predicate["environment"]["packages"]["torch"] = "2.0.0"

    rewrite(bundle, predicate=elsewhere)
    code, found = asked(capsys, bundle)
    assert (code, found["outcome"]) == (0, "identical")
    assert not found["environment"]["same"] and not any(item["exact"] for item in found["comparisons"])
    said = " ".join(found["environment"]["differences"])
    assert "here, NEON there" in said and "here, 2.0.0 there" in said
    weaken(bundle, broken_rows(bundle))
    rewrite(bundle, predicate=elsewhere)
    code, found = asked(capsys, bundle)
    assert (code, found["outcome"]) == (1, "contradicted")


def test_clean_margins_that_do_not_come_out_are_another_place(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two processors of one name may round otherwise: a last bit is no lie, and nothing here can be exact."""

    def rounded(table: Outcomes) -> Outcomes:
        return table.with_columns(
            {"reference/clean/margin": np.nextafter(table["reference/clean/margin"], np.float32(np.inf))}
        )

    rewrite(bundle, outcomes=rounded)
    code, found = asked(capsys, bundle)
    assert (code, found["outcome"]) == (0, "identical")
    assert found["environment"] == {"same": False, "differences": [], "cleanMarginsToTheBit": False}


def test_certified_numbers_are_repeated_too(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A radius that is claimed larger, and votes that nobody cast."""
    from bundle.numbers.proofs import certified_radii

    [item] = open_bundle(bundle).predicate["smoothing"]

    def more(table: Outcomes) -> Outcomes:
        votes = np.where(np.arange(16) == 0, item["estimation"], table[f"{item['name']}/successes"])
        proved = table["proved/linf/eps_255"].copy()
        proved[table["reference/clean/prediction"] == table["label"]] += 1.0
        radii = certified_radii(votes, item["estimation"], item["sigma"], item["alpha"])
        return table.with_columns(
            {
                f"{item['name']}/successes": votes,
                f"{item['name']}/radius": radii,
                "proved/linf/eps_255": proved,
            }
        )

    honest = open_bundle(bundle).outcomes
    rewrite(bundle, outcomes=more)
    code, found = asked(capsys, bundle)
    differing = {item["kind"]: item["differ"] for item in found["comparisons"] if item["differ"]}
    assert code == 1
    assert differing["proved"] == int(honest.clean_right("reference").sum())
    assert ("smoothed" in differing) == (honest[f"{item['name']}/successes"][0] != item["estimation"])


def compared(differs: list[int], near: list[int], size: int = 400, **changes: Any) -> Repeated:
    flags = [np.isin(np.arange(size), places) for places in (differs, near)]
    right = np.ones(size, bool)
    settings: dict[str, Any] = {"kind": "attacked", "exact": False, **changes}
    return Repeated(
        name="x", setting="served", right_then=right, right_now=right ^ flags[0], differs=flags[0], near=flags[1], **settings
    )  # fmt: skip


@pytest.mark.parametrize(
    ("differs", "near", "changes", "explained"),
    [
        ([], [], {}, 0),
        ([1], [], {"exact": True}, 0),
        ([1], [1], {"exact": True}, 0),
        ([1, 2], [], {}, 2),  # 0.5 % of 400
        ([1, 2, 3], [], {}, 0),
        ([1, 2, 3], [2], {}, 3),
        ([1, 2, 3, 4], [2], {}, 1),
        ([*range(8)], [*range(8)], {}, 8),  # 2 % of 400
        ([*range(9)], [*range(9)], {}, 0),
        ([1], [], {"size": 20}, 1),
        ([1, 2], [], {"size": 20}, 0),
        ([1, 2], [1, 2], {"size": 20}, 2),
        ([1], [], {"kind": "replayed"}, 0),
        ([1], [1], {"kind": "replayed"}, 1),
        ([1], [], {"kind": "proved"}, 0),
    ],
)
def test_what_another_place_explains(
    differs: list[int], near: list[int], changes: dict[str, Any], explained: int
) -> None:
    found = compared(differs, near, **changes)
    assert int(found.explained.sum()) == explained
    assert found.contradicted == (explained < len(differs))
    assert found.broken_here == len(differs)


def test_fields_and_packages_of_an_environment_are_held_against_each_other() -> None:
    said = {"python": "3.11.7", "packages": {"torch": "2.13.0", "numpy": "2.4.6"}, "lock_sha256": "a" * 64}
    assert not list(environment_differences(said, said))
    here = {"python": "3.12.1", "packages": {"torch": "2.13.0", "scipy": "1.1"}, "lock_sha256": "b" * 64}
    assert list(environment_differences(said, here)) == [
        "lock_sha256 is bbbbbbbbbbbb… here, aaaaaaaaaaaa… there",
        "numpy is not named here, 2.4.6 there",
        "python is 3.12.1 here, 3.11.7 there",
        "scipy is 1.1 here, not named there",
    ]


def test_what_cannot_be_repeated_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An attack whose network is not here, one with settings that this code has not, and a plugin of elsewhere."""

    def others(predicate: Predicate) -> None:
        names = ("transfer-guide", "pgd-10", "elsewhere")
        for item, name in zip(predicate["attacks"], names, strict=False):
            item["name"] = name
        predicate["attacks"][1]["settings"] = {**predicate["attacks"][1]["settings"], "steps": 1000}
        predicate["attacks"][2]["settings"] = {"entryPoint": "elsewhere:attack", "seed": 0}
        predicate["parameters"]["attack"]["plugins"] = ["elsewhere"]

    first = [item["name"] for item in open_bundle(bundle).predicate["attacks"][:3]]
    assert first == ["noise", "pgd-10", "pgd-20"]

    def renamed(table: Outcomes) -> Outcomes:
        names = {"linf-16/noise/": "linf-16/transfer-guide/", "linf-16/pgd-20/": "linf-16/elsewhere/"}

        def new(column: str) -> str:
            for old, name in names.items():
                column = column.replace(old, name)
            return column

        return Outcomes({new(column): values for column, values in table.columns.items()})

    images = dict(open_bundle(bundle).images)
    images["linf-16/transfer-guide"] = images.pop("linf-16/noise")
    images["linf-16/elsewhere"] = images.pop("linf-16/pgd-20")
    rewrite(bundle, outcomes=renamed, files={IMAGES: pack_images(images)}, predicate=others, recompute=False)
    rewrite(bundle)
    verify(bundle)
    code, found = asked(capsys, bundle)
    why = {item["what"]: item["why"] for item in found["notRepeated"]}
    assert code == 0
    assert "carried over from is not in the bundle" in why["attack linf-16/transfer-guide"]
    assert "steps 1000 there, 10 here" in why["attack linf-16/pgd-10"]
    assert "elsewhere:attack, that is not installed here" in why["attack linf-16/elsewhere"]
    replayed = [item["name"] for item in found["comparisons"] if item["kind"] == "replayed"]
    assert "linf-16/transfer-guide" in replayed, "what it found is here, and is replayed all the same"


def test_a_parity_that_allows_anything_makes_no_twin(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Attacks on another network than the one that is served would find nothing about it."""

    def anything(predicate: Predicate) -> None:
        predicate["parity"]["tolerance"] = 1e9
        predicate["selfCheck"]["allowedMoved"] = 10**6

    weights = load((bundle / WEIGHTS).read_bytes())
    rewrite(bundle, files={WEIGHTS: save({**weights, "linear.bias": weights["linear.bias"] + 1})}, predicate=anything)
    verify(bundle)
    code, found = asked(capsys, bundle)
    assert (code, found["outcome"]) == (1, "refused") and "is no rounding of logits up to" in found["reason"]


def test_bundles_that_say_too_little_are_refused_in_one_sentence(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = json.loads((bundle / ATTESTATION).read_bytes())
    seed = {"attestation": sha256_bytes(b""), "tier": "quick", "seed": 0}
    for change, said in (
        (lambda item: item["parameters"].pop("attack"), "does not record the seed"),
        (lambda item: item.update(merged=[seed, {**seed, "seed": 1}]), "merged from 2 evaluations"),
    ):
        rewrite(bundle, predicate=change)
        code, found = asked(capsys, bundle)
        assert (code, found["outcome"]) == (1, "refused") and said in found["reason"]
        (bundle / ATTESTATION).write_text(json.dumps(statement))
