"""Ways in which a file comes to be no longer what a stage left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bundle.table.outcomes import Outcomes


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_bytes(b"a text that is none of this format\n" * 20)


def other_content(path: Path) -> None:
    """A whole file of the same format that says something else."""
    match path.suffix:
        case ".json":
            path.write_text('{"of": "another program"}\n')
        case ".npz":
            np.savez(path, images=np.zeros((3, 5, 5, 1), np.uint8), labels=np.arange(3))
        case ".parquet":
            Outcomes({"index": [0, 1], "label": [3, 4], "other": [0.5, 0.5]}).save(path)
        case ".safetensors":
            path.write_bytes((2).to_bytes(8, "little") + b"{}")
        case _:
            path.write_bytes(_identity_model())


def other_form(path: Path) -> None:
    """JSON of another form, each field of another kind; other formats as a text."""
    if path.suffix != ".json":
        text(path)
        return
    path.write_text(json.dumps({name: 5 for name in json.loads(path.read_bytes())}))


def nested(path: Path) -> None:
    """So deep that a parser which calls itself ends; what is no JSON is read as such all the same."""
    path.write_bytes(b"[" * 100_000)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def no_permission(path: Path) -> None:
    path.chmod(0)


#: Every way that does not depend on who runs the test.
WAYS = (missing, empty, truncated, text, other_content, other_form, nested, folder)


def _identity_model() -> bytes:
    import onnx

    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("a", "b")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["a"], ["b"])], "other", info[:1], info[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()
