"""The images of a run: prepared once for all runs with the same data settings."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.manifest import load_manifest
from pipeline.data.preparation import prepare_data
from pipeline.data.split import DataError
from pipeline.experiments.run import Places, Run
from pipeline.locks import locked
from pipeline.params import DataSettings


def prepared(run: Run, places: Places) -> Path:
    """The folder with the run's splits and manifest, made now if need be; raises DataError where no images are."""
    folder, settings = places.data(run), run.params.data
    with locked(folder / ".lock", wait=True):
        # The manifest is written last. A person's own files are read anew: they may have changed.
        if settings.name == "folder" or settings.extra or not (folder / "manifest.json").exists():
            _refuse_absent(settings)
            prepare_data(settings, folder)
    load_manifest(folder / "manifest.json")
    return folder


def _refuse_absent(settings: DataSettings) -> None:
    """A run under a time limit downloads nothing: what a stage would fetch must be there already."""
    from torchvision.datasets import CIFAR10, CIFAR100

    dataset = {"cifar10": CIFAR10, "cifar100": CIFAR100}.get(settings.name)
    if dataset is None:
        return
    path = Path(settings.path).expanduser()
    if path.name != dataset.base_folder and not (path / dataset.base_folder).is_dir():
        raise DataError(
            f"{settings.path}: holds no {dataset.base_folder}; unpack {dataset.filename} there, or name the folder that "
            "has it (make results DATA=…)"
        )
