"""A published bundle, with nothing but its files: attacked again, only where its network is the ONNX file's twin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from bundle.assembly import assemble
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import WEIGHTS
from pipeline import reattack
from pipeline.evaluation import reattacking as again
from pipeline.evaluation.from_bundle import check_companion, open_published
from pipeline.evaluation.reattacking import attack_again, changed_settings
from pipeline.params import AttackSettings
from tests.bundles import make_bundle
from tests.pipeline.published import make_published

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return place / make_published(Path("out"))


@pytest.fixture
def published(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the bundle alone, in a folder that is now the current one."""
    shutil.copytree(original, tmp_path / "a bundle")
    monkeypatch.chdir(tmp_path)
    yield Path("a bundle")


def settings_of(path: Path, **options: Any) -> AttackSettings:
    return changed_settings(open_bundle(path).predicate, options)


def test_a_second_bundle_of_the_same_model_on_the_same_images(published: Path, capsys: pytest.CaptureFixture[str]):
    reattack.main(published)
    first, second = open_bundle(published), open_bundle("a bundle-reattack-quick-1")
    assert second.digest == first.digest and second.statement_bytes != first.statement_bytes
    for name in first.outcomes.columns:
        if name in ("index", "label", "image_sha256") or "/clean/" in name or name.startswith("smoothed-"):
            assert np.array_equal(first.outcomes[name], second.outcomes[name]), name
    assert second.predicate["bounds"] == first.predicate["bounds"]
    assert second.predicate["sample"] == first.predicate["sample"]
    assert second.predicate["parameters"]["reattack"]["attestation"] == sha256_bytes(first.statement_bytes)
    for found in (first, second):  # nobody trained this network
        checks = {item["check"]: item["outcome"] for item in found.predicate["sanity"]}
        assert (
            checks["above_chance"] == "fail" and {"class_order", "copies", "near_copies", "two_labels"} <= checks.keys()
        )
        assert not found.predicate["reliable"]
    attacks = {(item["threat"], item["name"]): item for item in second.predicate["attacks"]}
    assert list(attacks) == [(item["threat"], item["name"]) for item in first.predicate["attacks"]]
    assert attacks["linf-16", "pgd-10"]["settings"]["seed"] == 1
    key = "linf-16/noise"
    assert not np.array_equal(first.images[key], second.images[key]), "another seed draws other noise"
    said = capsys.readouterr().out
    assert "hallmark merge 'a bundle' " in said and "twin" in said
    assert sorted(path.name for path in Path().iterdir()) == ["a bundle", "a bundle-reattack-quick-1", "checkpoints"]
    assert not list(Path("checkpoints").iterdir()), "kept parts are gone once the bundle is there"


def test_what_is_there_is_not_written_over(published: Path, monkeypatch: pytest.MonkeyPatch):
    Path("there").mkdir()
    monkeypatch.setattr(again, "gather_evidence", lambda *_, **__: pytest.fail("refused before the attack"))
    with pytest.raises(HallmarkError, match="there: is there already"):
        attack_again(open_published(published), [], settings_of(published), Path("there"), device="cpu", threads=1)


def test_a_stopped_call_leaves_nothing_and_the_next_goes_on(published: Path, monkeypatch: pytest.MonkeyPatch):
    """Stopped while the bundle is written: no bundle, no half of one; then nothing is attacked a second time."""
    model, settings = open_published(published), settings_of(published, seed=7)
    monkeypatch.setattr(again, "source_digest", lambda: "0" * 64)

    def stopped(folder: Path, **_: object) -> None:
        (folder / "model.onnx").write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(again, "assemble", stopped)
        attack_again(model, [], settings, Path("again"), device="cpu", threads=1)
    assert sorted(path.name for path in Path().iterdir()) == ["a bundle", "checkpoints"]
    for name in ("trajectory", "margin_pgd", "noise"):
        monkeypatch.setattr(f"pipeline.evaluation.tiers.{name}", lambda *_, **__: pytest.fail("was kept"))
    attack_again(open_published(published), [], settings, Path("again"), device="cpu", threads=1)
    assert open_bundle("again").predicate["parameters"]["attack"]["seed"] == 7


def rewritten(bundle: Bundle, path: Path, weights: bytes, **changes: Any) -> Path:
    """The same bundle with other weights or fields, every digest right."""
    predicate: Mapping[str, Any] = {**bundle.predicate, **changes}
    assemble(
        path,
        model=bundle.model,
        weights=weights,
        outcomes=bundle.outcomes,
        images=bundle.images,
        predicate=predicate,
    )
    return path


def test_a_network_that_is_not_the_files_twin_is_refused(published: Path):
    """The largest difference is named; weights that only rounding could tell apart pass."""
    bundle, weights = open_bundle(published), load((published / WEIGHTS).read_bytes())
    for change, refused in ((0.5, True), (1e-7, False)):
        bias = weights["linear.bias"] + np.linspace(0, change, 10, dtype=np.float32)
        other = rewritten(bundle, Path(f"other {change}"), save({**weights, "linear.bias": bias}))
        call = dict(device="cpu", threads=1)
        if refused:
            with pytest.raises(HallmarkError, match=r"not the twin .* differ by up to 0\.5.* allows 0\.0"):
                attack_again(open_published(other), [], settings_of(other), Path("no"), **call)  # type: ignore[arg-type]
        else:
            attack_again(open_published(other), [], settings_of(other), Path("yes"), **call)  # type: ignore[arg-type]
    assert Path("yes").exists() and not Path("no").exists()


def test_a_bundles_factory_runs_only_where_it_was_named(published: Path, monkeypatch: pytest.MonkeyPatch):
    """A bundle says which code builds its network; whoever opens it has to have meant that code."""
    Path("trap.py").write_text(
        "from pathlib import Path\nPath('executed').touch()\ndef network(): raise ValueError('no')\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    bundle = open_bundle(published)
    description = {"factory": "trap:network", "arguments": {"x": 1}, "classes": 10, "channels": 1}
    other = rewritten(bundle, Path("other"), (published / WEIGHTS).read_bytes(), network=description)
    for factories in ([], ["os:system"]):
        with pytest.raises(HallmarkError, match=r"trap:network\(x=1\).*--factory trap:network"):
            open_published(other, factories)
    assert not Path("executed").exists()
    with pytest.raises(HallmarkError, match="trap:network: failed with TypeError"):
        open_published(other, ["trap:network"])
    assert Path("executed").exists()


def test_settings_are_the_bundles_but_for_the_options(published: Path):
    found = settings_of(published)
    assert (found.tier, found.seed, found.eps_255, found.eps_l2, found.images) == ("quick", 1, [16.0], [0.3], 16)
    changed = settings_of(published, tier="thorough", seed=9, eps_l1=[2.0], restarts=3)
    assert (changed.tier, changed.seed, changed.restarts) == ("thorough", 9, 3)
    assert (changed.eps_255, changed.eps_l2, changed.eps_l1) == (None, None, [2.0])
    with pytest.raises(HallmarkError, match=r"attack\.restarts: must be ≥ 1"):
        settings_of(published, restarts=0)


def test_points_of_a_curve_are_no_threats_to_attack_in_full(published: Path):
    """Their radii follow from `sweep`; and after a merge the seed is above every source's."""
    predicate = dict(open_bundle(published).predicate)
    point = {"name": "linf-8", "norm": "linf", "eps_255": 8.0, "levels": 8}
    predicate["threats"] = [point, *predicate["threats"]]
    predicate["attacks"] = [{"threat": "linf-8", "name": "margin"}, *predicate["attacks"]]
    assert changed_settings(predicate, {}).eps_255 == [16.0]
    predicate["merged"] = [{"attestation": "0" * 64, "tier": "quick", "seed": seed} for seed in (0, 4, 2)]
    assert changed_settings(predicate, {}).seed == 5


def test_other_models_must_take_the_same_images(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    victim = open_published(published)
    check_companion(victim, victim)
    bundle = open_bundle(published)
    data = {**bundle.predicate["data"], "classes": list("abcdefghij")}
    other = rewritten(bundle, Path("other"), (published / WEIGHTS).read_bytes(), data=data)
    with pytest.raises(HallmarkError, match=r"--transfer-from other: takes the classes .* a bundle takes"):
        check_companion(open_published(other), victim)
    with pytest.raises(SystemExit):
        reattack.main(published, transfer_from=[published])
    assert "--tier standard or thorough" in capsys.readouterr().err


def test_a_bundle_whose_network_nobody_can_build_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_bundle(tmp_path / "b")
    with pytest.raises(SystemExit) as caught:
        reattack.main(tmp_path / "b")
    said = capsys.readouterr().err
    assert caught.value.code == 1 and "network name: must be one of" in said and said.count("\n") == 1


def test_the_command_works_from_any_folder(published: Path):
    """As a user would, in a process of its own: two radii by hand, the bundle's own seed left out."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.reattack", "a bundle", "--eps-255", "4,8", "--out", "deep/er"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = open_bundle("deep/er").predicate
    assert [threat["name"] for threat in found["threats"]] == ["linf-4", "linf-8"]
    assert "linf-8" in done.stdout and str(Path.cwd()) not in Path("deep/er/attestation.json").read_text()
