"""ONNX files of every kind that a stranger might put into a bundle: an honest one, and ones that are refused or dangerous."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.bundles import SIZE, linear_model

#: What the added operators make of the honest logits is a tensor of this name, of one number.
EXTRA = "extra"


def honest() -> onnx.ModelProto:
    """The linear classifier of tests.bundles."""
    return onnx.load_from_string(_fitted())


@cache
def _fitted() -> bytes:
    return linear_model()[0]


def extended(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], domains: Sequence[str] = ()
) -> onnx.ModelProto:
    """The honest classifier with operators beside it whose result, EXTRA, is added to every logit."""
    model = honest()
    model.graph.node[-1].output[0] = "linear"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["linear", EXTRA], ["logits"])])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in domains)
    return model


def external(location: str = "weights.bin") -> tuple[onnx.ModelProto, bytes]:
    """The honest classifier with its weight in another file of this name, and that file's content."""
    model = honest()
    [weight] = [item for item in model.graph.initializer if item.name == "weight"]
    content = weight.raw_data
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(content))}.items():
        weight.external_data.add(key=key, value=value)
    return model, content


def endless() -> onnx.ModelProto:
    """A Loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "zero"], [EXTRA], name="for ever", body=body)
    return extended([loop], {"true": np.array(True), "zero": np.array(0, np.float32)})


def constant(elements: int) -> onnx.ModelProto:
    """A ConstantOfShape of so many numbers, of which the largest is taken."""
    return extended(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["many"]),
            helper.make_node("ReduceMax", ["many"], [EXTRA], keepdims=0),
        ],
        {"shape": np.array([elements], np.int64)},
    )


def square(side: int) -> onnx.ModelProto:
    """A column and a row that an Add broadcasts to side × side numbers: no shape in the file is large."""
    return extended(
        [
            helper.make_node("Expand", ["one", "column"], ["left"]),
            helper.make_node("Expand", ["one", "row"], ["right"]),
            helper.make_node("Add", ["left", "right"], ["many"]),
            helper.make_node("ReduceMax", ["many"], [EXTRA], keepdims=0),
        ],
        {
            "one": np.array(0, np.float32),
            "column": np.array([side, 1], np.int64),
            "row": np.array([1, side], np.int64),
        },
    )


def slow(layers: int, side: int = 2000) -> onnx.ModelProto:
    """Products of large matrices, one after the other, that begin from the images."""
    nodes = [
        helper.make_node("ReduceMin", ["unit"], ["least"], keepdims=0),
        helper.make_node("Expand", ["least", "shape"], ["matrix0"]),
        *(helper.make_node("MatMul", [f"matrix{layer}", "matrix0"], [f"matrix{layer + 1}"]) for layer in range(layers)),
        helper.make_node("ReduceMax", [f"matrix{layers}"], [EXTRA], keepdims=0),
    ]
    return extended(nodes, {"shape": np.array([side, side], np.int64)})


def by_batch() -> onnx.ModelProto:
    """Answers as the honest classifier where more than one image comes, and the opposite to one that comes alone."""
    model = honest()
    model.graph.node[-1].output[0] = "linear"
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["images"], ["rows"], start=0, end=1),
            helper.make_node("Equal", ["rows", "single"], ["alone"]),
            helper.make_node("Neg", ["linear"], ["opposite"]),
            helper.make_node("Where", ["alone", "opposite", "linear"], ["logits"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "single"))
    return model


def images(count: int) -> NDArray[np.uint8]:
    """Random images (N, H, W, C) of the size that these models take."""
    return np.random.default_rng(count).integers(0, 256, (count, *SIZE), dtype=np.uint8)
