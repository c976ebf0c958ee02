"""The queue: works off a plan's runs in their order, in the time that there is, from where earlier calls stopped."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.digests import canonical_json, write_whole
from bundle.errors import FullDiskError, HallmarkError, is_full
from pipeline import train
from pipeline.data.manifest import load_manifest
from pipeline.evaluation.running import progress_line
from pipeline.experiments.evaluation import Evaluation, Trained
from pipeline.experiments.pace import Budget, Pace, duration, time_epoch
from pipeline.experiments.plan import Places, Run, prepared
from pipeline.experiments.result import load_result, save_result
from pipeline.run.cache import locked
from pipeline.run.devices import choose_device
from pipeline.run.environment import source_digest
from pipeline.stage import refusal, set_threads

if TYPE_CHECKING:
    from pipeline.experiments.pace import Interruption

#: In a run's folder: whose settings it is of, that training has ended, why the run failed.
IDENTITY, TRAINED, FAILURE = "run.json", "trained.json", "failure.json"
#: Begins the line that says which run a process takes.
BEGINS = "takes "


@dataclass
class QueueReport:
    """What a call did, by the runs' keys; `notes` says of runs that are not done why, in a sentence."""

    worked: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)


class Queue:
    """One process's work on a plan; several may share it, each takes the next run that no other has.

    `command` names the command that a run's result is made with. `train_only` leaves the attacks to another call.
    """

    def __init__(
        self,
        runs: list[Run],
        places: Places,
        budget: Budget,
        *,
        command: Callable[[Run], str],
        stop: Interruption,
        train_only: bool = False,
    ) -> None:
        self.runs, self.places, self.budget, self.command, self.stop = runs, places, budget, command, stop
        self.train_only = train_only
        self.report = QueueReport()

    def work(self) -> QueueReport:
        """Every run's first stage, in the order of the plan; then the whole test splits of those that have it."""
        for run in self.runs:
            self._take(run, whole=False)
        for run in [] if self.train_only else self.runs:
            if run.whole and has_result(run, self.places):
                self._take(run, whole=True)
        return self.report

    def _take(self, run: Run, *, whole: bool) -> None:
        if self.budget.left() <= 0 or has_result(run, self.places, whole):
            return
        folder = self.places.folder(run)
        with locked(folder.with_name(f".{folder.name}.lock")) as mine:
            if not mine:
                self._note(run, "another process works on it")
            elif (failure := folder / FAILURE).exists():
                self._fail(run, json.loads(failure.read_text(encoding="utf-8")))
            elif not has_result(run, self.places, whole):  # another process may have ended it a moment ago
                try:
                    self._go_on(run, whole)
                except Exception as error:  # out of memory, a missing package: the other runs need not wait for it
                    if self.stop.asked and isinstance(error, HallmarkError):  # training says in a sentence how to go on
                        raise KeyboardInterrupt from None
                    if is_full(error) or isinstance(error, FullDiskError):  # the others would meet it too
                        raise
                    sentence = _why(error)
                    write_whole(failure, canonical_json(sentence))
                    self._fail(run, sentence)

    def _go_on(self, run: Run, whole: bool) -> None:
        """One run, as far as the time allows: training to a checkpoint, evaluation to a shard."""
        print(f"{BEGINS}{run.key}", flush=True)
        data, folder = prepared(run, self.places), self.places.folder(run)
        _require_attacks(run)
        _forget_others(run, folder, load_manifest(data / "manifest.json"))
        set_threads(run.params.cpu_threads)
        trained = self._trained(run, data, folder)
        if trained is not None and self.train_only:
            self._note(run, "trained, not attacked yet")
        elif trained is not None:
            self._evaluate(run, Evaluation(run, self.places, data, trained), whole)

    def _trained(self, run: Run, data: Path, folder: Path) -> Trained | None:
        """The training's record; None where the time ends first."""
        if (record := folder / TRAINED).exists():
            return Trained(**json.loads(record.read_text(encoding="utf-8")))
        epochs = run.params.train.epochs or 0
        pace = Pace.load(folder, choose_device(run.params.device).type)
        if pace.seconds_per_epoch is None and self.budget.deadline is not None:
            pace = pace.model_copy(update={"seconds_per_epoch": time_epoch(run.params, data)})
        seconds = pace.seconds_per_epoch or 0.0
        left = seconds * (epochs - pace.epochs_done)
        if not self.budget.fits(seconds):
            pace.model_copy(update={"seconds_left": left}).save(folder)
            self._note(run, f"an epoch takes about {duration(seconds)}, longer than there is time", say=True)
            return None
        print(f"{run.key}: trains {epochs} epochs{f', about {duration(left)} left' if left else ''}", flush=True)
        self.report.worked.add(run.key)
        ended = train.main(run.params, data, folder, deadline=self.budget.deadline)
        speed = ended.seconds / max(1, ended.epochs_done)
        Pace(
            device=pace.device,
            epochs_done=ended.epochs_done,
            seconds_per_epoch=speed,
            seconds_left=speed * (epochs - ended.epochs_done),
        ).save(folder)
        if not ended.finished:
            self._note(run, f"trained {ended.epochs_done} of {epochs} epochs", say=True)
            return None
        trained = Trained(ended.seconds, source_digest())
        write_whole(record, canonical_json(vars(trained)))
        return trained

    def _evaluate(self, run: Run, evaluation: Evaluation, whole: bool) -> None:
        """Shards while they fit; the result once the stage is complete."""
        parts, shards = evaluation.parts(whole), evaluation.found(whole)
        seconds = max((shard.seconds / len(shard.rows) for shard in shards), default=0.0)
        if not shards and self.budget.deadline is not None:
            seconds = evaluation.expected_seconds()
        if missing := sum(map(len, parts[len(shards) :])):
            about = f", about {duration(seconds * missing)}" if seconds else ""
            print(f"{run.key}: attacks {missing} of {sum(map(len, parts))} images{about}", flush=True)
        making = evaluation.attack(len(shards), whole, progress_line())
        while len(shards) < len(parts):
            if not self.budget.fits(seconds * len(parts[len(shards)])):
                self._leave_evaluation(run, len(shards), parts, seconds)
                return
            self.report.worked.add(run.key)
            shards.append(next(making))
            seconds = max(shard.seconds / len(shard.rows) for shard in shards)
        save_result(self.places.result(run), evaluation.conclude(shards, self.command(run)))
        self.report.worked.add(run.key)
        self.report.done.add(run.key)
        self.report.notes.pop(run.key, None)
        print(f"{run.key}: done, {self.places.result(run)}", flush=True)

    def _leave_evaluation(self, run: Run, done: int, parts: Sequence[Sized], seconds: float) -> None:
        folder, missing = self.places.folder(run), sum(map(len, parts[done:]))
        pace = Pace.load(folder, choose_device(run.params.device).type)
        pace.model_copy(update={"seconds_left": seconds * missing}).save(folder)
        self._note(run, f"trained, {sum(map(len, parts[:done]))} of {sum(map(len, parts))} images attacked", say=True)

    def _fail(self, run: Run, sentence: str) -> None:
        # Many runs may lack the same data: said once.
        self._note(run, sentence, say=sentence not in self.report.notes.values())
        self.report.failed.add(run.key)

    def _note(self, run: Run, sentence: str, *, say: bool = False) -> None:
        self.report.notes[run.key] = sentence
        if say:
            print(f"{run.key}: {sentence}", flush=True)


def has_result(run: Run, places: Places, whole: bool = False) -> bool:
    """Whether a run's published result is of its settings and of enough images; raises HallmarkError for a damaged one."""
    path = places.result(run)
    if not path.exists():
        return False
    result = load_result(path)
    enough = result.sample.of if whole and run.split == "test" else min(run.images, result.sample.of)
    return result.settings_sha256 == run.digest and result.sample.size >= enough


def forget_failures(runs: list[Run], places: Places) -> None:
    """Takes away what an earlier call noted of runs that failed, so that they are tried again."""
    for run in runs:
        (places.folder(run) / FAILURE).unlink(missing_ok=True)


def _why(error: Exception) -> str:
    """A sentence about why a run failed; a fault of the code leaves its traceback in the log as well."""
    if (said := refusal(error)) is not None:
        return said
    traceback.print_exc()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _require_attacks(run: Run) -> None:
    """Said before hours of training, not after them."""
    if run.params.attack.tier == "standard" and find_spec("pyautoattack") is None:
        raise HallmarkError("attack.tier: standard needs the package pyautoattack, which is not installed here")


def _forget_others(run: Run, folder: Path, manifest: dict[str, Any]) -> None:
    """Weights of other settings or other images under the same name go with their shards: they are another run's."""
    images = {name: split["sha256"] for name, split in manifest["splits"].items()}
    record, identity = folder / IDENTITY, {"run": run.training, "images": images}
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != identity:
        shutil.rmtree(folder)
    write_whole(record, canonical_json(identity))
