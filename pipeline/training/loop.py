"""The training loop: one method step after another, averaging, validation, a checkpoint an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.data.split import Split
from pipeline.methods import Batch, Method
from pipeline.networks.folding import fold_while_crafting
from pipeline.params import TrainSettings
from pipeline.run.devices import captures, in_layout, memory_format
from pipeline.training.batches import Batches, Sampling, on_device, reseed
from pipeline.training.checkpoints import load_checkpoint, random_state, restore_random_state, save_checkpoint
from pipeline.training.graphs import Gradients, GraphedGradients
from pipeline.training.optimisation import WeightPerturbation, learning_rate, make_average, radius_share
from pipeline.training.overfitting import AttackSuccess, OverfittingAlarm
from pipeline.training.progress import Deadline, LiveMetrics, TrainingProgress
from pipeline.training.validation import Selected, validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Training:
    """One run, from its checkpoint if there is one. All images are on the device; nothing is read while training.

    `sampling` says which rows of `train` each step sees; `fast` is devices.pays_off's answer. `seconds` is the time
    spent in epochs, over all calls of run.
    """

    def __init__(
        self,
        method: Method,
        train: Split,
        validation: Split,
        settings: TrainSettings,
        *,
        sampling: Sampling,
        seed: int,
        fabric: Fabric,
        fast: bool = False,
    ) -> None:
        assert settings.epochs and settings.momentum is not None and settings.weight_decay is not None  # resolved
        self.settings, self.fabric, self.seed = settings, fabric, seed
        fabric.to_device(method)
        self.method = in_layout(method, memory_format(fabric.device, settings, fast=fast))
        if fast and not settings.compile:
            fold_while_crafting(self.method.children())
        self.batches = Batches(train, settings, sampling, classes=method.task.classes, device=fabric.device, seed=seed)
        self.validation = on_device(validation, fabric.device)
        self.average = make_average(settings, self.method.served())
        self.weight_perturbation = WeightPerturbation(self.method, settings.awp_gamma) if settings.awp_gamma else None
        if settings.compile:
            for network in self.method.children():
                network.compile()
        self.optimiser = torch.optim.SGD(
            self.method.trained(), lr=1.0, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.epoch, self.epochs, self.steps = 0, settings.epochs, sampling.steps
        self.gradients: Callable[[Batch], Gradients] = self._gradients
        if captures(fabric.device, settings):
            self.gradients = GraphedGradients(self._gradients, self.method, fabric.device)
        self.attack_success = AttackSuccess(fabric.device)
        self.alarm = OverfittingAlarm(settings.catastrophic_overfitting, len(validation))
        self.selected = Selected(by=method.selected_by)
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.epoch >= self.epochs or self.alarm.stopped_after is not None

    def run(self, checkpoints: Path, live: Path | None = None, deadline: float | None = None) -> bool:
        """Trains to the end or to the last epoch that ends before `deadline`, a time.monotonic() value.

        Leaves a checkpoint after every epoch; Ctrl-C says how to go on. Returns whether training is finished.
        """
        self._resume(checkpoints)
        metrics = LiveMetrics(live, resume=self.epoch > 0) if live else None
        images, clock = self.batches.sampling.images_an_epoch, Deadline(deadline)
        try:
            with TrainingProgress(self.epochs, self.steps, images, self.epoch) as progress:
                while not self.finished and clock.admits_another():
                    self._epoch_with_checkpoint(checkpoints, progress, metrics)
                    clock.epoch_done()
        except KeyboardInterrupt:
            raise HallmarkError(
                f"stopped in epoch {self.epoch + 1} of {self.epochs}; the epochs before it are kept in {checkpoints}, "
                "and the same command goes on from there"
            ) from None
        finally:
            if metrics:
                metrics.end()
        if not self.finished:
            print(f"stops after epoch {self.epoch} of {self.epochs}: the next would not end in time", flush=True)
        return self.finished

    def network(self) -> nn.Module:
        """The network that is validated and exported: the averaged one, as soon as weights are averaged."""
        return self.average.network if self.average and self.average.serves else self.method.served()

    def _epoch_with_checkpoint(
        self, checkpoints: Path, progress: TrainingProgress, metrics: LiveMetrics | None
    ) -> None:
        started = time.monotonic()
        row = self._epoch(progress)
        self.seconds += time.monotonic() - started
        warm = self.method.radius_share == 1
        best = self.selected.offer(row, self.network(), self.method.companions(), warm=warm)
        progress.epoch(row, best)
        # A network without defence forgets what little resistance it began with; that is no overfitting.
        action = self.alarm.judge(row, self.history) if self.method.selected_by == "pgd_10" else None
        if action == "roll_back":
            self._roll_back(checkpoints)
            progress.back_to(self.epoch)
            return
        row["overfitting"] = int(action is not None)
        self.history.append({**row, "selected": int(best)})
        save_checkpoint(checkpoints, self._state())
        if metrics:
            metrics.epoch(row)

    def _epoch(self, progress: TrainingProgress) -> dict[str, Any]:
        self.method.train()
        totals: dict[str, Tensor] = {}
        rate = 0.0
        for number, rows in enumerate(self.batches.order(self.epoch)):
            step = self.epoch * self.steps + number
            rate = learning_rate(step, self.epochs * self.steps, self.settings)
            for name, value in self.step(rows, step, rate).items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value
            progress.step()
        if self.average:
            self.average.after_epoch(self.method, self.epoch / self.epochs)
        self.epoch += 1
        means = {name: float(total) / self.steps for name, total in totals.items()}
        if wrong := [name for name, value in means.items() if not math.isfinite(value)]:
            raise HallmarkError(
                f"no finite number in epoch {self.epoch}: {', '.join(wrong)}; a lower train.lr may help"
            )
        accuracy = validate(self.network(), *self.validation, threats=self.method.threats)
        return {
            "epoch": self.epoch,
            "lr": rate,
            **means,
            "attack_success": self.attack_success.take_share(),
            "validation_clean": accuracy.clean,
            "validation_pgd_10": accuracy.robust,
            "validation_fgsm": accuracy.fgsm,
        }

    def step(self, rows: Tensor, step: int, rate: float) -> dict[str, Tensor]:
        """Optimiser step number `step` on these rows of the split, with learning rate `rate`; what is logged of it."""
        self.method.radius_share = radius_share(step, self.epochs * self.steps, self.settings)
        batch = self.batches.batch(rows, self.epoch, self.epochs, step)
        weights = self.weight_perturbation if self.epoch / self.epochs >= self.settings.awp_start else None
        self.optimiser.zero_grad(set_to_none=True)
        perturbed, terms = Gradients(self._perturbed(batch), {}) if weights else self.gradients(batch)
        if step % self.steps % AttackSuccess.EVERY == 0:
            with self.fabric.autocast():
                self.attack_success.measure(self.method.served(), batch, self.method.attacked(perturbed))
        if weights:
            weights.move(lambda: _total(self._losses(batch, perturbed)))
            terms = self._losses(batch, perturbed)
            self.fabric.backward(_total(terms))
        norm = nn.utils.clip_grad_norm_(self.method.trained(), self.settings.gradient_clip or math.inf)
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.step()
        if weights:
            weights.restore()
        self.method.after_step(batch, perturbed)
        if self.average:
            self.average.after_step(self.method, step)
        return {**{f"loss_{name}": value.detach() for name, value in terms.items()}, "gradient_norm": norm.detach()}

    def _gradients(self, batch: Batch) -> Gradients:
        """Images, and the gradients of the loss on them, in one block: autocast casts each weight once in it."""
        with self.fabric.autocast():
            perturbed = self.method.perturb(batch)
            terms = self.method.losses(batch, perturbed)
        self.fabric.backward(_total(terms))
        return Gradients(perturbed, {name: value.detach() for name, value in terms.items()})

    def _perturbed(self, batch: Batch) -> Any:
        with self.fabric.autocast():
            return self.method.perturb(batch)

    def _losses(self, batch: Batch, perturbed: Any) -> dict[str, Tensor]:
        """In a block of its own: autocast keeps the weights that it has cast in one, and these move."""
        with self.fabric.autocast():
            return self.method.losses(batch, perturbed)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state() if self.average else {},
            "generator": self.batches.generator.get_state(),
            "random": random_state(),
            "alarm": self.alarm.state(),
            "selected": dict(vars(self.selected)),
            "history": self.history,
            "seconds": self.seconds,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.history, self.seconds = state["epoch"], state["history"], state["seconds"]
        self.method.load_state_dict(state["method"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load(state["average"])
        self.batches.generator.set_state(state["generator"])
        restore_random_state(state["random"])
        self.alarm = OverfittingAlarm(**state["alarm"])
        self.selected = Selected(**state["selected"])

    def _resume(self, checkpoints: Path) -> None:
        state = load_checkpoint(checkpoints)
        if state is None:
            save_checkpoint(checkpoints, self._state())
            return
        self._restore(state)
        print(f"goes on after epoch {self.epoch} of {self.epochs}, from {checkpoints}", flush=True)

    def _roll_back(self, checkpoints: Path) -> None:
        """To the checkpoint, but for the alarm and the time spent, and on with other random numbers."""
        state = load_checkpoint(checkpoints)
        assert state is not None  # run() leaves one before the first epoch
        self._restore({**state, "alarm": self.alarm.state(), "seconds": self.seconds})
        reseed(self.batches.generator, self.seed, self.alarm.roll_backs)
        save_checkpoint(checkpoints, self._state())


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
