"""`hallmark diff` of two models: the rows that pair, the verdict, what is left out and what changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.difference import Difference
from bundle.bundle import Bundle, open_bundle
from bundle.gate.pairing import Pair, PairingError
from bundle.layout import ATTESTATION
from bundle.numbers.intervals import paired_difference
from bundle.table.threats import Threat
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    made = {
        "first": make_bundle(root / "first", seed=1, noise=0.3, tier="quick"),
        "second": make_bundle(root / "second", seed=2, noise=0.3, tier="quick"),
        "ruined": make_bundle(root / "ruined", seed=3, noise=2.0, tier="quick"),
        "margin": make_bundle(root / "margin", seed=2, noise=0.3, tier="quick", attacks=("margin",)),
        "fewer": make_bundle(root / "fewer", seed=2, noise=0.3, tier="quick", rows=40),
        "narrow": make_bundle(root / "narrow", seed=2, noise=0.3, tier="quick", eps=(8,)),
    }
    return {name: open_bundle(path) for name, path in made.items()}


def test_two_seeds_of_one_model_are_compared_image_by_image(bundles: dict[str, Bundle]) -> None:
    """The number that decides, worked out from the two tables without the code under test."""
    a, b = bundles["first"].outcomes, bundles["second"].outcomes
    assert list(a["image_sha256"]) == list(b["image_sha256"])
    right = [
        (table["served/clean/prediction"] == table["label"])
        & ~table["served/linf-32/pgd-10/broken"]
        & ~table["served/linf-32/margin/broken"]
        for table in (a, b)
    ]
    found = Difference(Pair(bundles["first"], bundles["second"]))
    assert found.deciding is not None
    assert found.deciding.pair == paired_difference(*right)
    assert found.deciding.discordant[1] == [int(n) for n in a["index"][right[1] & ~right[0]]]
    assert found.sentence().startswith("B is not distinguishable from A: ")
    assert "under all attacks of l∞ 32/255, served, on 60 images" in found.sentence()
    assert found.pair.changed() == [{"setting": name, "a": 1, "b": 2} for name in ("attack.seed", "seed")]
    assert found.pair.data() == []
    settings = {(item.setting, item.threat, item.attack) for item in found.comparisons}
    assert len(settings) == len(found.comparisons) == 2 * (1 + 2 * 3)


def test_a_clear_difference_has_a_direction(bundles: dict[str, Bundle]) -> None:
    down = Difference(Pair(bundles["first"], bundles["ruined"]))
    up = Difference(Pair(bundles["ruined"], bundles["first"]))
    assert down.sentence().startswith("B is worse than A: −")
    assert up.sentence().startswith("B is better than A: +")
    assert up.describe()["verdict"] == "better"


def test_attacks_that_one_side_alone_met_are_left_out_and_named(bundles: dict[str, Bundle]) -> None:
    found = Difference(Pair(bundles["first"], bundles["margin"]))
    assert found.deciding is not None
    assert found.deciding.attack == "common"
    assert "under the attacks that both met of l∞ 32/255" in found.sentence()
    assert any(item.startswith("The attacks are not the same: ") and "PGD-10" in item for item in found.cautions())
    expected = [bundles[name].outcomes.robust("served", "linf-32", ["margin"]) for name in ("first", "margin")]
    assert found.deciding.pair == paired_difference(*expected)


def test_unions_are_compared_where_both_have_the_same(tmp_path: Path) -> None:
    balls = (Threat("l2", 0.5), Threat("l1", 2.0))
    a, b, other = (
        open_bundle(make_bundle(tmp_path / name, seed=seed, noise=0.3, tier="quick", eps=(32,), others=others))
        for name, seed, others in (("a", 1, balls[:1]), ("b", 2, balls[:1]), ("other", 2, balls))
    )
    found = Difference(Pair(a, b))
    (union,) = [item for item in found.comparisons if (item.setting, item.threat) == ("served", "union")]
    right = [table["served/clean/prediction"] == table["label"] for table in (bundle.outcomes for bundle in (a, b))]
    for threat in ("linf-32", "l2-0.5"):
        for attack in ("pgd-10", "margin"):
            right = [
                kept & ~bundle.outcomes[f"served/{threat}/{attack}/broken"]
                for kept, bundle in zip(right, (a, b), strict=True)
            ]
    assert union.attack == "all" and union.pair == paired_difference(*right)
    assert found.deciding is not None and found.deciding.threat == "linf-32"
    assert "union" not in {item.threat for item in Difference(Pair(a, other)).comparisons}, "of other threats"


def test_attacks_of_another_strength_do_not_compare_but_of_another_seed_do(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    longer = shutil.copytree(bundles["second"].path, tmp_path / "longer")
    rewrite(longer, predicate=lambda item: item["attacks"][2]["settings"].update(steps=20))
    pair = Pair(bundles["first"], open_bundle(longer))
    assert pair.common_attacks("linf-16") == ["pgd-10", "margin"]  # their seeds differ
    assert pair.common_attacks("linf-32") == ["margin"]
    assert pair.other_attacks("linf-32") == ["pgd-10"]


def test_only_images_that_both_have_are_compared(bundles: dict[str, Bundle]) -> None:
    found = Difference(Pair(bundles["fewer"], bundles["first"]))
    assert found.pair.unpaired == (0, 20)
    assert {item.pair.images for item in found.comparisons} == {40}
    assert "Images that one side alone has are left out: 0 of A, 20 of B." in found.cautions()


def test_rows_in_another_order_pair_by_their_image(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """Pairing by position would compare different images."""
    order = np.random.default_rng(0).permutation(60)
    table = bundles["first"].outcomes
    shuffled = Bundle(
        **{**vars_of(bundles["first"]), "outcomes": type(table)({k: v[order] for k, v in table.columns.items()})}
    )
    found = Difference(Pair(bundles["first"], shuffled))
    assert all((item.pair.only_a, item.pair.only_b) == (0, 0) for item in found.comparisons)
    assert "A and B are the same model file: what differs is the evaluation." in found.cautions()


def vars_of(bundle: Bundle) -> dict[str, object]:
    return {name: getattr(bundle, name) for name in Bundle.__dataclass_fields__}


def test_no_threat_in_common_is_said_and_clean_images_still_compare(bundles: dict[str, Bundle]) -> None:
    found = Difference(Pair(bundles["first"], bundles["narrow"]))
    assert found.sentence().startswith("Not compared: ")
    assert found.describe()["verdict"] is None
    assert [item.threat for item in found.comparisons] == [None, None]


def test_no_image_in_common_and_other_labels_are_refused(bundles: dict[str, Bundle]) -> None:
    table = bundles["first"].outcomes
    others = Bundle(
        **{**vars_of(bundles["first"]), "outcomes": table.with_columns({"image_sha256": ["0" * 64] * len(table)})}
    )
    with pytest.raises(PairingError, match="have no image in common"):
        Difference(Pair(bundles["first"], others))
    relabelled = table.with_columns({"label": (table["label"] + 1) % 10})
    others = Bundle(**{**vars_of(bundles["first"]), "outcomes": relabelled})
    with pytest.raises(PairingError, match="row 0 has another label than the same image"):
        Difference(Pair(bundles["first"], others))


def test_a_verdict_about_an_unreliable_model_carries_a_caution(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    folder = shutil.copytree(bundles["second"].path, tmp_path / "unreliable")

    def fail_a_check(predicate: dict[str, object]) -> None:
        predicate["sanity"][0].update(statistic=0.9, outcome="fail", passed=False)  # type: ignore[index]
        predicate["reliable"] = False

    rewrite(folder, predicate=fail_a_check)
    found = Difference(Pair(bundles["first"], open_bundle(folder)))
    assert found.cautions()[0].startswith("B is unreliable: ")


def test_the_command_says_it_in_words_and_in_json(
    bundles: dict[str, Bundle], masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    a, b = (str(bundles[name].path) for name in ("first", "ruined"))
    said = CliRunner().invoke(app, ["diff", a, b])
    assert said.exit_code == 0
    assert said.stdout.startswith("B is worse than A: ")
    for part in (
        "clean images",
        "PGD-10",
        "in the test split: 12",
        "seed: 1 → 3",
        "Data that differ: none",
    ):
        assert part in said.stdout, part
    both = CliRunner().invoke(app, ["diff", a, b, "--all"], env={"COLUMNS": "80"}).stdout
    tables = both[both.index("\nServed\n") : both.index("Images right in A alone")]
    assert "\nReference\n" in tables and "margin attack  " in tables
    assert max(map(len, tables.splitlines())) <= 80
    document = json.loads(CliRunner().invoke(app, ["diff", a, b, "--json"]).stdout)
    assert document["verdict"] == "worse"
    assert document["a"]["version"] == bundles["first"].version
    assert len(document["decidedBy"]["onlyA"]) == 20
    assert document["changed"][0] == {"setting": "attack.seed", "a": 1, "b": 3}
    Path("out/bundle").mkdir(parents=True)
    shutil.copyfile(masters.second / ATTESTATION, f"out/bundle/{ATTESTATION}")
    version = open_bundle(masters.second).version
    alone = CliRunner().invoke(app, ["diff", version, a])
    assert alone.exit_code == 1
    assert alone.stderr.startswith(f"{version}: only its attestation is at hand, not its bundle; give the folder")
    for wrong in ([a], [a, b, a], [a, "--", b, a]):
        assert CliRunner().invoke(app, ["diff", *wrong]).exit_code != 0
