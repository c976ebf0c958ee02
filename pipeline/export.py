"""Stage export: the served network to one ONNX file whose answers are the network's."""

from __future__ import annotations

from bundle.digests import canonical_json, sha256_bytes, write_whole
from bundle.layout import MODEL, check_size
from pipeline.data.manifest import load_described, load_manifest
from pipeline.evaluation.victim import check_parity
from pipeline.networks.serialisation import load_network, to_onnx
from pipeline.params import Params
from pipeline.run.records import OUT, Folders
from pipeline.stage import stage


def main(params: Params, folders: Folders = OUT) -> None:
    """Writes model.onnx and parity.json; fails where torch and ONNX Runtime disagree."""
    network = load_network(folders.trained)
    validation = load_described(folders.data / "validation.npz", load_manifest(folders.data / "manifest.json"))
    content = to_onnx(network, validation.images.shape[1:], opset=params.export.opset)
    check_size(MODEL, len(content))  # a bundle could not hold it
    # The test split is not touched here: agreement is checked on the validation images.
    parity = check_parity(network, content, validation, tolerance=params.export.tolerance, threads=params.cpu_threads)
    write_whole(folders.model, content)
    write_whole(folders.parity, canonical_json({"parity": parity, "settings": params.export.model_dump()}))
    print(
        f"{folders.model}: {len(content) / 1e6:.2f} MB, version {sha256_bytes(content)[:12]}; on {parity['images']} "
        "clean, adversarial and noise images the largest logit difference to torch is "
        f"{parity['largestLogitDifference']:.1e}"
    )


if __name__ == "__main__":
    stage("export", main)
