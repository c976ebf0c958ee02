"""Stage prepare: images to out/data (train.npz, validation.npz, test.npz, manifest.json)."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.preparation import prepare_data
from pipeline.params import Params
from pipeline.stage import stage

OUT = Path("out/data")


def main(params: Params) -> None:
    """Writes the splits and says what they are in two lines."""
    manifest = prepare_data(params.data, OUT)
    counts = ", ".join(f"{split['count']} {name}" for name, split in manifest["splits"].items())
    height, width, channels = manifest["image_shape"]
    print(f"{manifest['name']}: {counts} images in {OUT}")
    print(
        f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}, {len(manifest['classes'])} classes;"
        f" test images that are also trained on: {manifest['leakage']['test_images_also_in_train']}"
    )


if __name__ == "__main__":
    stage("prepare", main)
