"""The queue: what is skipped, resumed and left, and what two processes do with one plan."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from bundle.errors import HallmarkError
from pipeline.data.manifest import split_sha256
from pipeline.data.split import Split, load_split, save_split
from pipeline.experiments import pace, queue
from pipeline.experiments.__main__ import main
from pipeline.experiments.pace import Budget, Interruption, duration, read_duration
from pipeline.experiments.plan import Places, Run, load_plan
from pipeline.experiments.queue import FAILURE, Queue, forget_failures, has_result
from pipeline.experiments.result import load_result
from pipeline.run.cache import locked
from tests.pipeline.experiments.samples import small, write_plan


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


PLACES = Places(Path("results"), Path("out/results"))
NOTHING_LEFT = Budget(0.0)


def plan(*entries: str) -> list[Run]:
    return load_plan(write_plan(Path("plan.yaml"), *entries))


def work(runs: list[Run], budget: Budget | None = None, places: Places = PLACES) -> queue.QueueReport:
    command = "python -m pipeline.experiments"
    stop = Interruption()
    return Queue(runs, places, budget or Budget(), command=lambda run: command, stop=stop).work()


def test_a_plan_is_worked_off_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The first stage, then the whole split; then nothing, even with other code; and again with other settings."""
    (run,) = plan(small("one", images=20, shard=10))
    assert work([run]).done == {"one-0"}
    result = load_result(Path("results/digits/one-0.json"))
    assert (result.sample.size, result.sample.of) == (40, 40)
    assert "attacks 20 of 20 images" in (said := capsys.readouterr().out) and "attacks 20 of 40 images" in said
    assert set(result.accuracy.threats["linf-32"]) == {"pgd-10", "pgd-20", "pgd-50", "margin", "all"}
    assert len(Path("checkpoints/test-reads.jsonl").read_text().splitlines()) == 1
    monkeypatch.setattr(queue, "source_digest", lambda: "b" * 64)
    assert work([run]).worked == set()
    (other,) = plan(small("one", images=20, shard=10, settings={"train.epochs": 1}))
    assert not has_result(other, PLACES)
    assert work([other]).done == {"one-0"}
    assert load_result(Path("results/digits/one-0.json")).settings["train"]["epochs"] == 1


def test_the_first_stages_come_before_any_whole_split(capsys: pytest.CaptureFixture[str]):
    runs = plan(small("one", images=20, shard=20), small("two", images=20, shard=20, whole="false"))
    work(runs)
    said = capsys.readouterr().out
    places = [
        said.index(line) for line in ("one-0: attacks 20 of 20", "two-0: attacks 20 of 20", "one-0: attacks 20 of 40")
    ]
    assert places == sorted(places)
    assert load_result(PLACES.result(runs[1])).sample.size == 20


def test_a_first_stage_is_part_of_the_whole():
    """The images of the first stage have the same outcomes in the final result: nothing was attacked anew."""
    (run,) = plan(small("one", images=20, shard=10, whole="false"))
    work([run])
    first = load_result(PLACES.result(run))
    (run,) = plan(small("one", images=20, shard=10))
    work([run])
    whole = load_result(PLACES.result(run))
    ours, theirs = (item.accuracy.threats["linf-32"]["all"].outcomes() for item in (first, whole))
    assert (ours == theirs[:20]).all() and first.digests == whole.digests


def test_the_papers_attacks_are_asked_of_as_many_images_as_their_limits_say():
    """Training alone first; its weights are attacked by another call, with the guide that was trained beside them."""
    entry = small(
        "one",
        images=10,
        shard=10,
        suite="papers",
        limits="{margin: 20, adaptive: 10, linf-16/pgd: 30}",
        settings={"method.name": "d2r_cag", "network.guide_width": 8, "attack.eps_255": "[32, 16]"},
    )
    (run,) = plan(entry)
    command, stop = (lambda run: "x"), Interruption()
    report = Queue([run], PLACES, Budget(), command=command, stop=stop, train_only=True).work()
    assert report.notes == {"one-0": "trained, not attacked yet"} and not has_result(run, PLACES)
    weights = (PLACES.folder(run) / "weights.safetensors").read_bytes()
    assert work([run]).done == {"one-0"}
    assert (PLACES.folder(run) / "weights.safetensors").read_bytes() == weights
    result = load_result(PLACES.result(run))
    asked = {name: {key: share.n for key, share in item.items()} for name, item in result.accuracy.threats.items()}
    others = {"margin-20": 20, "margin-50": 20, "transfer-guide": 40, "adaptive": 10, "all": 10}
    assert asked == {
        "linf-16": {**dict.fromkeys(("pgd-10", "pgd-20", "pgd-50", "pgd-100"), 30), **others},
        "linf-32": {**dict.fromkeys(("pgd-10", "pgd-20", "pgd-50", "pgd-100"), 40), **others},
    }
    assert result.accuracy.clean.n == result.sample.size == 40


def test_a_choice_reads_the_validation_split_and_leaves_the_test_split_alone():
    (run,) = plan(small("choice", split="validation", images=10, shard=10))
    work([run])
    result = load_result(PLACES.result(run))
    assert (result.sample.split, result.sample.size, result.sample.of) == ("validation", 10, 12)
    assert not Path("checkpoints/test-reads.jsonl").exists()


def test_what_does_not_fit_is_left_and_the_next_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue, "time_epoch", lambda params, data: 1e6 if params.train.epochs == 3 else 0.01)
    runs = plan(small("long", settings={"train.epochs": 3}), small("short", images=20))
    report = work(runs, Budget(time.monotonic() + 500))
    assert report.done == {"short-0"} and "an epoch takes about 277.8 h" in report.notes["long-0"]
    assert pace.Pace.left(PLACES.folder(runs[0])) == 3e6


def test_an_evaluation_that_does_not_fit_is_left_at_its_shard(monkeypatch: pytest.MonkeyPatch):
    (run,) = plan(small("one", images=20, shard=10))
    monkeypatch.setattr(queue.Evaluation, "expected_seconds", lambda self: 1e6)
    report = work([run], Budget(time.monotonic() + 500))
    assert report.worked == {"one-0"} and report.notes["one-0"] == "trained, 0 of 20 images attacked"
    assert (PLACES.folder(run) / "weights.safetensors").exists() and not has_result(run, PLACES)


def test_a_call_without_time_begins_nothing():
    runs = plan(small("one"))
    assert work(runs, NOTHING_LEFT).worked == set() and not PLACES.folder(runs[0]).exists()


def test_a_training_cut_short_by_the_deadline_goes_on_next_time():
    """With so little time that the first call ends within training, whatever the machine."""
    (run,) = plan(small("one", images=20, shard=10, settings={"train.epochs": 40}))
    PLACES.folder(run).mkdir(parents=True)
    pace.Pace(device="cpu", seconds_per_epoch=0.01).save(PLACES.folder(run))
    report = work([run], Budget(time.monotonic() + 1.5))
    assert not report.done and not (PLACES.folder(run) / "weights.safetensors").exists()
    noted = pace.Pace.load(PLACES.folder(run), "cpu")
    assert 0 < noted.epochs_done < 40 and noted.seconds_left
    assert work([run]).done == {"one-0"}


def test_images_that_are_not_there_are_one_sentence_and_the_next_run_is_taken(capsys: pytest.CaptureFixture[str]):
    cifar = "{name: %s, settings: {data.name: cifar10, method.name: trades}}"
    runs = plan(cifar % "one", cifar % "two", small("three", images=20, whole="false"))
    report = work(runs)
    assert report.done == {"three-0"} and report.failed == {"one-0", "two-0"}
    said = capsys.readouterr()
    assert said.out.count("holds no cifar-10-batches-py; unpack cifar-10-python.tar.gz there") == 1 and not said.err


def test_a_failed_run_is_left_to_the_next_call_of_a_person(monkeypatch: pytest.MonkeyPatch):
    runs = plan(small("one", images=20, whole="false"))

    def fail(*arguments: object, **options: object) -> None:
        raise HallmarkError("the loss is no finite number")

    with monkeypatch.context() as patched:
        patched.setattr(queue.train, "main", fail)
        assert work(runs).notes == {"one-0": "the loss is no finite number"}
    assert work(runs).failed == {"one-0"}, "another process on the same plan does not try it again"
    forget_failures(runs, PLACES)
    assert not (PLACES.folder(runs[0]) / FAILURE).exists() and work(runs).done == {"one-0"}


def test_a_run_that_another_process_works_on_is_passed_over():
    runs = plan(small("one", images=20, whole="false"), small("two", images=20, whole="false"))
    with locked(PLACES.work / ".one-0.lock") as mine:
        assert mine
        report = work(runs)
    assert report.done == {"two-0"} and report.notes["one-0"] == "another process works on it"
    with locked(PLACES.work / ".one-0.lock") as mine:
        assert mine


def test_being_stopped_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    """Training turns Ctrl-C into a sentence; the queue must end, not go on with the next run."""
    runs, stop = plan(small("one"), small("two")), Interruption()

    def stopped(*arguments: object, **options: object) -> None:
        stop.asked = True
        raise HallmarkError("stopped in epoch 1 of 2")

    monkeypatch.setattr(queue.train, "main", stopped)
    with pytest.raises(KeyboardInterrupt):
        Queue(runs, PLACES, Budget(), command=lambda run: "x", stop=stop).work()
    assert not (PLACES.folder(runs[0]) / FAILURE).exists() and not PLACES.folder(runs[1]).exists()


@pytest.mark.parametrize("number", ["0000", "0001"])
def test_a_shard_of_other_weights_or_a_damaged_one_is_made_again(number: str):
    (run,) = plan(small("one", images=20, shard=10, whole="false"))
    work([run])
    before, (folder,) = PLACES.result(run).read_bytes(), (PLACES.folder(run) / "shards").iterdir()
    (shard,) = folder.glob(f"{number}-*.json")
    content = shard.read_text()

    def cut_off() -> None:
        shard.write_text(content[:50])

    for disturb in (cut_off, lambda: folder.rename(folder.with_name("of-other-weights"))):
        disturb()
        PLACES.result(run).unlink()
        work([run])
        assert _without_seconds(PLACES.result(run).read_bytes()) == _without_seconds(before)
        assert shard.read_text() != content[:50]


def _without_seconds(content: bytes) -> dict[str, object]:
    return {key: value for key, value in json.loads(content).items() if key != "seconds"}


def test_notes_of_another_device_say_nothing_of_the_speed_here(tmp_path: Path):
    pace.Pace(device="cuda", epochs_done=3, seconds_per_epoch=2.0, seconds_left=9.0).save(tmp_path)
    assert pace.Pace.load(tmp_path, "cpu") == pace.Pace(device="cpu", epochs_done=3)
    assert pace.Pace.load(tmp_path, "cuda").seconds_per_epoch == 2.0


def test_an_epoch_is_timed_in_a_few_steps():
    (run,) = plan(small("one"))
    seconds = pace.time_epoch(run.params, queue.prepared(run, PLACES))
    assert 0 < seconds < 120


def test_timing_multiplies_what_depends_on_the_images_and_not_what_every_step_costs(monkeypatch: pytest.MonkeyPatch):
    """A step that costs 1 s whatever it holds is timed as such; one of a second per image is not waited for."""
    monkeypatch.setattr(pace, "_timed", lambda step, count, device: step(count))
    device, taken = pace.torch.device("cpu"), []
    assert pace._time(lambda count: 1.0, 100, device) == 1.0
    assert pace._time(lambda count: taken.append(count) or float(count), 100, device) == 100.0
    assert max(taken) == pace.TRIAL


@pytest.mark.parametrize(
    ("text", "seconds"), [("25m", 1500), ("90s", 90), ("90", 90), ("2h", 7200), ("1h30m", 5400), ("1m5s", 65)]
)
def test_a_budget_is_read(text: str, seconds: float):
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "25 minutes", "-5m", "1.5h"])
def test_a_budget_that_is_no_time_is_refused(text: str):
    with pytest.raises(HallmarkError, match="budget: must be a time like 25m"):
        read_duration(text)


def test_no_budget_is_no_limit():
    assert Budget.of(None, 0.0).left() == math.inf and Budget().fits(1e12) and not NOTHING_LEFT.fits(0.0)
    assert [duration(seconds) for seconds in (42.3, 720, 12600)] == ["42.3 s", "12 min", "3.5 h"]


def test_an_error_that_nobody_foresaw_leaves_the_other_runs_alone(monkeypatch: pytest.MonkeyPatch):
    runs, original = plan(small("one"), small("two")), queue.train.main

    def failing(params, data, out, **options):
        if out.name == "one-0":
            raise MemoryError("out of\nmemory")
        return original(params, data, out, **options)

    monkeypatch.setattr(queue.train, "main", failing)
    report = work(runs)
    assert report.failed == {"one-0"} and report.notes["one-0"] == "there is not enough memory (out of memory)"
    assert "two-0" in report.done


def test_a_run_that_fails_is_a_failure_of_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Interruption, "listen", lambda self: None)
    plan(small("one", settings={"train.lr": 1e30}))
    with pytest.raises(SystemExit) as ended:
        main(plan=Path("plan.yaml"))
    assert ended.value.code == 1


def test_a_result_names_the_plan_that_it_is_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Interruption, "listen", lambda self: None)
    plan(small("one"))
    with pytest.raises(SystemExit) as ended:
        main(plan=Path("plan.yaml"))
    assert ended.value.code == 0
    assert load_result(Path("results/digits/one-0.json")).command == "make results PLAN=plan.yaml ONLY=one"


def test_autoattack_that_is_missing_is_said_before_training(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue, "find_spec", lambda name: None)
    monkeypatch.setattr(queue.train, "main", lambda *arguments, **options: pytest.fail("trained"))
    report = work(plan(small("one", settings={"attack.tier": "standard"})))
    assert report.notes["one-0"].startswith("attack.tier: standard needs the package pyautoattack")


def test_weights_of_other_images_are_not_taken(monkeypatch: pytest.MonkeyPatch):
    """The images of a folder may change while the settings stay: training begins anew."""
    (run,) = plan(small("one"))
    work([run])
    before = load_result(PLACES.result(run))
    PLACES.result(run).unlink()
    manifest, path = PLACES.data(run) / "manifest.json", PLACES.data(run) / "train.npz"
    document, split = json.loads(manifest.read_text()), load_split(path)
    changed = Split(255 - split.images, split.labels)
    save_split(path, changed)
    document["splits"]["train"]["sha256"] = split_sha256(changed)
    manifest.write_text(json.dumps(document))
    trained = []
    original = queue.train.main
    monkeypatch.setattr(queue.train, "main", lambda *a, **o: (trained.append(1), original(*a, **o))[1])
    work([run])
    assert trained and load_result(PLACES.result(run)).data.splits["train"] != before.data.splits["train"]
