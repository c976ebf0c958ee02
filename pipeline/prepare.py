"""Stage prepare: images to out/data (train.npz, validation.npz, test.npz, manifest.json)."""

from __future__ import annotations

from bundle.leakage import leakage_sentence
from pipeline.data.preparation import prepare_data
from pipeline.params import Params
from pipeline.run.folders import OUT, Folders
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT, *, training: bool = True) -> None:
    """Writes the splits and says what they are: three lines, and further ones for files not read and extra images.

    Without `training` test images alone are enough.
    """
    manifest = prepare_data(params.data, folders.data, training=training)
    counts = ", ".join(f"{split['count']} {name}" for name, split in manifest["splits"].items())
    shape = " x ".join(str(length) for length in manifest["image_shape"])
    print(f"{manifest['name']}: {counts} images in {folders.data}")
    print(f"{shape} (H x W x C), {len(manifest['classes'])} classes")
    print(leakage_sentence(manifest["leakage"]))
    if not_read := manifest.get("notRead"):
        print("files that are not read: " + ", ".join(f"{item['files']} ({item['reason']})" for item in not_read))
    if extra := manifest.get("extra"):
        print(f"{extra['images']} of the training images are extra: {extra['share']:.0%} of every batch")


if __name__ == "__main__":
    stage("prepare", main)
