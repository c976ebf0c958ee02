"""The training loop: order of images, augmentation, one method step, averaging, validation, a checkpoint an epoch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.attacks.threat import Threat, to_unit
from pipeline.data.augmentation import augment
from pipeline.data.split import Split
from pipeline.methods import Batch, Method
from pipeline.params import TrainSettings
from pipeline.training.averaging import AveragedNetwork
from pipeline.training.checkpoints import load_checkpoint, random_state, restore_random_state, save_checkpoint
from pipeline.training.progress import LiveMetrics, TrainingProgress
from pipeline.training.schedules import learning_rate
from pipeline.training.validation import validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass
class Selected:
    """The weights that are exported, chosen on the validation split.

    `by` is Method.selected_by: most images right under PGD-10, then clean, or the other way round.
    """

    by: str
    epoch: int = 0
    robust: float = -1.0
    clean: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, row: dict[str, Any], network: nn.Module) -> bool:
        """Takes an epoch's weights if they are better; the earlier epoch wins a tie."""
        offered, best = (row["validation_pgd_10"], row["validation_clean"]), (self.robust, self.clean)
        if (offered <= best) if self.by == "pgd_10" else (offered[::-1] <= best[::-1]):
            return False
        self.epoch, self.robust, self.clean = row["epoch"], row["validation_pgd_10"], row["validation_clean"]
        self.weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        return True


class Training:
    """One run, from its checkpoint if there is one. All images are on the device; nothing is read while training."""

    def __init__(
        self,
        method: Method,
        train: Split,
        validation: Split,
        settings: TrainSettings,
        *,
        threat: Threat,
        seed: int,
        fabric: Fabric,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.settings, self.threat, self.fabric = settings, threat, fabric
        self.method = fabric.to_device(method).to(memory_format=layout)
        self.images, self.labels = self._on_device(train)
        self.validation = self._on_device(validation)
        self.average = AveragedNetwork(self.method.served()) if settings.averaging == "ema" else None
        if settings.compile:
            for network in self.method.children():
                network.compile()
        assert settings.batch_size and settings.epochs and settings.momentum is not None  # resolved settings
        assert settings.weight_decay is not None
        self.optimiser = torch.optim.SGD(
            self.method.trained(), lr=1.0, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.epochs = settings.epochs
        # Nearly equal batches instead of a small last one, whose BatchNorm statistics would be worth little.
        self.steps = max(1, round(len(train) / settings.batch_size))
        self.epoch = 0
        self.selected = Selected(by=method.selected_by)
        self.history: list[dict[str, Any]] = []

    def run(self, checkpoints: Path, live: Path | None = None) -> None:
        """Trains to the end, leaving a checkpoint after every epoch; Ctrl-C says how to go on."""
        self._resume(checkpoints)
        metrics = LiveMetrics(live, resume=self.epoch > 0) if live else None
        try:
            with TrainingProgress(self.epochs, self.steps, len(self.images), self.epoch) as progress:
                while self.epoch < self.epochs:
                    row = self._epoch(progress)
                    best = self.selected.offer(row, self.network())
                    self.history.append({**row, "selected": int(best)})
                    save_checkpoint(checkpoints, self._state())
                    progress.epoch(row, best)
                    if metrics:
                        metrics.epoch(row)
        except KeyboardInterrupt:
            raise HallmarkError(
                f"stopped in epoch {self.epoch + 1} of {self.epochs}; the epochs before it are kept in {checkpoints}, "
                "and the same command goes on from there"
            ) from None
        finally:
            if metrics:
                metrics.end()

    def network(self) -> nn.Module:
        """The network that is validated and exported: the averaged one where weights are averaged."""
        return self.average.network if self.average else self.method.served()

    def _epoch(self, progress: TrainingProgress) -> dict[str, Any]:
        self.method.train()
        order = torch.randperm(len(self.images), generator=self.generator)
        totals: dict[str, Tensor] = {}
        rate = 0.0
        for number, index in enumerate(torch.tensor_split(order, self.steps)):
            step = self.epoch * self.steps + number
            rate = learning_rate(step, self.epochs * self.steps, self.settings)
            for name, value in self._step(index.to(self.images.device), step, rate).items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value
            progress.step()
        self.epoch += 1
        means = {name: float(total) / self.steps for name, total in totals.items()}
        if not all(math.isfinite(value) for value in means.values()):
            raise HallmarkError(
                f"the loss is no finite number in epoch {self.epoch} ({means}); a lower train.lr may help"
            )
        clean, robust = validate(self.network(), *self.validation, threat=self.threat)
        return {"epoch": self.epoch, "lr": rate, **means, "validation_clean": clean, "validation_pgd_10": robust}

    def _step(self, index: Tensor, step: int, rate: float) -> dict[str, Tensor]:
        images = augment(to_unit(self.images[index]), self.settings.augment or "none", self.generator)
        batch = Batch(images, self.labels[index], index, self.epoch, self.epochs, step)
        with self.fabric.autocast():
            perturbed = self.method.perturb(batch)
            terms = self.method.losses(batch, perturbed)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        norm = nn.utils.clip_grad_norm_(self.method.trained(), self.settings.gradient_clip or math.inf)
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.step()
        self.method.after_step(batch, perturbed)
        if self.average:
            decay = self.method.averaging_decay(step, self.settings.ema_decay or 0.0)
            self.average.update(self.method.served(), decay)
        return {**{f"loss_{name}": value.detach() for name, value in terms.items()}, "gradient_norm": norm.detach()}

    def _on_device(self, split: Split) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(split.images).permute(0, 3, 1, 2).contiguous()
        return self.fabric.to_device(images), self.fabric.to_device(torch.from_numpy(split.labels))

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.network.state_dict() if self.average else {},
            "generator": self.generator.get_state(),
            "random": random_state(),
            "selected": vars(copy.copy(self.selected)),
            "history": self.history,
        }

    def _resume(self, checkpoints: Path) -> None:
        state = load_checkpoint(checkpoints)
        if state is None:
            save_checkpoint(checkpoints, self._state())
            return
        self.epoch, self.history = state["epoch"], state["history"]
        self.method.load_state_dict(state["method"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.network.load_state_dict(state["average"], strict=True)
        self.generator.set_state(state["generator"])
        restore_random_state(state["random"])
        self.selected = Selected(**state["selected"])
        print(f"goes on after epoch {self.epoch} of {self.epochs}, from {checkpoints}", flush=True)
