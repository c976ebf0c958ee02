"""Stage export: the served network to one ONNX file whose answers are the network's."""

from __future__ import annotations

from pathlib import Path

from bundle.digests import canonical_json, sha256_file, write_whole
from pipeline.data.split import load_split
from pipeline.evaluation.parity import check_parity
from pipeline.params import Params
from pipeline.serialisation import load_network, to_onnx
from pipeline.stage import stage

TRAINED, DATA, MODEL, PARITY = Path("out/train"), Path("out/data"), Path("out/model.onnx"), Path("out/parity.json")


def main(params: Params) -> None:
    """Writes out/model.onnx and out/parity.json; fails where torch and ONNX Runtime disagree."""
    network = load_network(TRAINED)
    validation = load_split(DATA / "validation.npz")
    content = to_onnx(network, validation.images.shape[1:], opset=params.export.opset)
    # The test split is not touched here: agreement is checked on the validation images.
    parity = check_parity(network, content, validation, tolerance=params.export.tolerance, threads=params.threads)
    write_whole(MODEL, content)
    write_whole(PARITY, canonical_json({"parity": parity, "settings": params.export.model_dump()}))
    print(
        f"{MODEL}: {len(content) / 1e6:.2f} MB, version {sha256_file(MODEL)[:12]}; on {parity['images']} clean, "
        f"adversarial and noise images the largest logit difference to torch is {parity['largestLogitDifference']:.1e}"
    )


if __name__ == "__main__":
    stage("export", main)
