"""Stage train: out/data to the weights of the served network, chosen on the validation split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bundle.digests import sha256_file
from pipeline.networks import describe
from pipeline.params import Params
from pipeline.params.reading import with_digests
from pipeline.run.cache import Cache, cache_folder
from pipeline.run.environment import describe_environment, source_digest
from pipeline.run.notice import FirstSteps
from pipeline.stage import stage
from pipeline.training.build import build_training
from pipeline.training.loop import Training
from pipeline.training.record import save_training

DATA, OUT = Path("out/data"), Path("out/train")


class TrainingResult(NamedTuple):
    """Whether training is finished, the seconds that its epochs took over all calls, and how many epochs are done."""

    finished: bool
    seconds: float
    epochs_done: int


def main(params: Params, data: Path = DATA, out: Path = OUT, deadline: float | None = None) -> TrainingResult:
    """Trains, from its checkpoint if there is one, and writes what save_training lists.

    `deadline`, a time.monotonic() value, ends the call before an epoch that would not end in time: its checkpoint is
    kept, no weights are written to `out`, and the same call goes on from there.
    """
    training = build_training(params, data)
    settings = params.model_dump(include={"seed", "threads", "threat", "network", "method", "train"}, by_alias=True)
    settings["method"] = with_digests(settings["method"])
    environment = describe_environment(training.fabric.device, params.cpu_threads)
    extra = {"own": training.batches.sampling.own, "share": training.batches.sampling.share}
    splits = {name: sha256_file(data / f"{name}.npz") for name in ("train", "validation")}
    checkpoints = cache_folder(
        {"settings": settings, "environment": environment, "source": source_digest(), "splits": splits, **extra}
    )
    print(
        f"{training.method.title} on {len(training.batches.images)} images, "
        f"{training.epochs} epochs of {training.steps} steps, {training.fabric.device.type}",
        flush=True,
    )
    print(_networks(training), flush=True)
    skipped, counted = (0, 2) if training.fabric.device.type == "cpu" else (40, 40)
    training.gradients = FirstSteps(training.gradients, lambda: _steps_left(training), skipped, counted)
    if training.run(checkpoints, live=out / "live", deadline=deadline):
        save_training(out, training, settings, environment)
        Cache(checkpoints).remove()
    return TrainingResult(training.finished, training.seconds, training.epoch)


def _networks(training: Training) -> str:
    """Which networks are trained, with their parameters; the first is the one that is served."""
    served = training.method.served()
    size = sum(parameter.numel() for parameter in served.parameters())
    others = sum(parameter.numel() for parameter in training.method.parameters()) - size
    beside = f", beside it {others:,} of networks that are trained along" if others > 0 else ""
    return f"{describe(served)['name']} with {size:,} parameters{beside}"


def _steps_left(training: Training) -> int:
    return (training.epochs - training.epoch) * training.steps


if __name__ == "__main__":
    stage("train", main)
