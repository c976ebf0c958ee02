"""The published numbers: what their files may say, and what the committed ones do say."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import HallmarkError
from pipeline.experiments.published import load_curves, load_published
from pipeline.methods import method_names
from pipeline.networks import network_names

RESULTS = Path(__file__).resolve().parents[3] / "results"
ROW = {"dataset": "cifar10", "network": "resnet18", "method": "pgd_at", "eps": "8/255", "source": "a paper"}
CURVE = {
    **ROW,
    "split": "test",
    "attack": "PGD-10",
    "epochs": 3,
    "schedule": "lr 0.1",
    "points": [[1, 30.0, 20], [3, 40.5, 30.25]],
}
#: What other people train and this project does not.
# fmt: off
OTHER_METHODS = {
    "backward_smoothing", "cure", "dajat", "data_filtering", "dkl", "dynamic_rewiring", "fat_trades", "free_at",
    "jarn", "latent_at", "lbgat_awp", "level_sets", "ltd", "manifold_regularization", "metric_learning", "oaat",
    "pgd_at_awp", "self_adaptive", "sensible", "trades_awp", "yopo",
}
# fmt: on
OTHER_NETWORKS = {"resnet44"}
Load = Callable[[Path], Any]


def test_every_method_and_network_is_ours_or_known_from_elsewhere():
    """A name that is misspelt is neither; a name that has become ours leaves the lists."""
    rows = load_published(RESULTS / "published.json")
    assert {row.method for row in rows} - set(method_names()) == OTHER_METHODS
    assert {row.network for row in rows} - set(network_names()) == OTHER_NETWORKS


def test_the_published_radii_are_those_of_their_norm():
    radii = {"linf": ("8/255", "16/255", "0.031", "not stated"), "l2": ("0.5",), "l1": ("12",)}
    rows = load_published(RESULTS / "published.json")
    assert all(row.eps.split(",")[0] in radii[row.norm] for row in rows)
    assert {row.norm for row in rows} == set(radii)


def test_the_published_rows_lie_by_data_network_and_method():
    keys = [row.key()[:3] for row in load_published(RESULTS / "published.json")]
    assert keys == sorted(keys)


def test_every_published_row_says_selection_and_runs_itself():
    rows = json.loads((RESULTS / "published.json").read_text(encoding="utf-8"))
    assert all({"selection", "runs", "third_party"} <= set(row) for row in rows)


def test_all_of_d2r_s_two_tables_is_there():
    rows = [row for row in load_published(RESULTS / "published.json") if "2506.07056" in row.source]
    for table, entries in (("table 1", 24), ("table 2", 6)):
        part = [row for row in rows if table in row.source]
        assert sum(row.clean is not None for row in part) == sum(row.autoattack is not None for row in part) == entries
        assert all(row.eps.startswith("0.031") == (row.autoattack is not None) for row in part)


def test_a_weaker_attack_of_a_source_leaves_no_fewer_right():
    """What is transcribed wrong shows here first; a point is what independent random starts differ by in these sources."""
    for row in load_published(RESULTS / "published.json"):
        order = [row.clean, row.pgd_10, row.pgd_20, row.pgd_50, row.pgd_100, row.autoattack]
        shares = [share for share in order if share is not None]
        if row.eps.startswith("8/255"):
            assert all(later <= earlier + 1 for earlier, later in pairwise(shares)), row


def test_the_published_curve_is_of_every_epoch_and_its_best_is_the_row():
    (curve,) = load_curves(RESULTS / "published-curves.json")
    assert [point[0] for point in curve.points] == list(range(1, curve.epochs + 1))
    (row,) = [row for row in load_published(RESULTS / "published.json") if row.network == curve.network]
    best = max(curve.points, key=lambda point: point[2])
    assert (row.clean, row.pgd_10) == best[1:] and row.source.split(",")[0] == curve.source.split(",")[0]


def test_what_a_row_leaves_out_is_not_stated(tmp_path: Path):
    (row,) = load_published(_write(tmp_path, [{**ROW, "cw_100": 49, "pgd_100": 51.0}]))
    assert (row.norm, row.selection, row.runs, row.cw_100, row.pgd_20) == ("linf", "not stated", None, 49.0, None)


def test_a_source_may_say_a_method_once_a_norm_and_eps(tmp_path: Path):
    others = [{**ROW, "norm": "l2", "eps": "0.5"}, {**ROW, "norm": "l1", "eps": "12"}, {**ROW, "eps": "16/255"}]
    assert len(load_published(_write(tmp_path, [ROW, *others, {**ROW, "eps": "0.031, its code's"}]))) == 5


def test_a_curve_is_read(tmp_path: Path):
    (curve,) = load_curves(_write(tmp_path, [CURVE]))
    assert curve.points == ((1, 30.0, 20.0), (3, 40.5, 30.25)) and curve.norm == "linf"


@pytest.mark.parametrize(
    ("load", "said", "sentence"),
    [
        (load_published, [{**ROW, "clean": 101.0}], "row 1.clean: must be ≤ 100, got 101.0"),
        (load_published, [{**ROW, "aa": 1.0}], "row 1.aa: is not a key here"),
        (load_published, [{**ROW, "norm": "l3"}], "row 1.norm: must be one of 'linf', 'l2' or 'l1', got 'l3'"),
        (load_published, [{**ROW, "runs": 0}], "row 1.runs: must be ≥ 1, got 0"),
        (load_published, [{**ROW, "selection": ""}], "row 1.selection: string should have at least 1 character"),
        (load_published, [ROW, ROW], "row 2: a paper says this method at this eps already; merge the rows"),
        (
            load_published,
            [ROW, {**ROW, "eps": "8/255, as it says"}],
            "row 2: a paper says this method at this eps already",
        ),
        (load_published, ["a row"], "row 1: must be a section with keys of its own, got 'a row'"),
        (load_published, {"rows": []}, "must be a list of rows, got {'rows': []}"),
        (load_curves, [{**CURVE, "points": []}], "curve 1.points: must hold a point"),
        (load_curves, [{**CURVE, "points": [[1, 30.0]]}], "curve 1.points.0.2: is missing"),
        (
            load_curves,
            [{**CURVE, "points": [[1.5, 30.0, 20.0]]}],
            "curve 1.points.0.0: must be a whole number, got 1.5",
        ),
        (load_curves, [{**CURVE, "points": [[1, 0.3, 120.0]]}], "curve 1.points.0.2: must be ≤ 100, got 120.0"),
        (
            load_curves,
            [{**CURVE, "points": [[2, 3.0, 2.0]] * 2}],
            "curve 1.points: the epochs must rise from point to point",
        ),
        (load_curves, [{**CURVE, "epochs": 2}], "curve 1.points: must end by epoch 2"),
        (
            load_curves,
            [{**CURVE, "split": "train"}],
            "curve 1.split: must be one of 'validation' or 'test', got 'train'",
        ),
        (load_curves, [CURVE, CURVE], "curve 2: a paper says this method at this eps already; merge the curves"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, load: Load, said: object, sentence: str):
    path = _write(tmp_path, said)
    with pytest.raises(HallmarkError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: {sentence}") and "\n" not in str(refused.value)


@pytest.mark.parametrize("load", [load_published, load_curves])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, load: Load):
    with pytest.raises(HallmarkError, match=r"none\.json: there is no such file"):
        load(tmp_path / "none.json")
    with pytest.raises(HallmarkError, match=r": cannot be read \(Is a directory\)"):
        load(tmp_path)
    (tmp_path / "half.json").write_text("[")
    with pytest.raises(HallmarkError, match=r"half\.json: is not JSON"):
        load(tmp_path / "half.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff[]")
    with pytest.raises(HallmarkError, match=r"bytes\.json: is not JSON"):
        load(tmp_path / "bytes.json")


def _write(folder: Path, said: object) -> Path:
    path = folder / "said.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    return path
