"""What a served model.onnx may be: a file whose answer depends on its own bytes and the image alone, and that ends.

A digest fixes an answer only where nothing outside the digested bytes takes part in it: no tensor in another file, no
operator of another library, no chance. And a stranger's model must not keep an auditor's machine: no loop, no tensor that a
few bytes make as large as they like. What only running it can show (bundle.served.runtime) has a limit of memory there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bundle.errors import HallmarkError
from bundle.layout import MODEL
from bundle.served.onnx_file import Node, OnnxFile, Tensor, read_onnx
from bundle.served.wire import WireError

#: The standard operators' domain, by both its names.
STANDARD = ("", "ai.onnx")
#: Operators of one model; torchvision's deepest networks have some two thousand.
NODES = 8192
#: Elements of a tensor whose shape the file states as a constant.
ELEMENTS = 1 << 28
#: Operators whose answer is drawn.
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
#: Operators that make a tensor as large as one of their inputs says, and which input that is.
MAKERS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "CenterCropPad": 1, "Resize": 3}
#: Characters of a stranger's name in a message.
SHOWN = 40


def check_model_file(content: bytes) -> None:
    """Raises HallmarkError where the bytes of a model.onnx are no ONNX file of the kind that may be served.

    Refused: tensors in other files, sparse ones, ones that hold fewer bytes than their shape asks for; operators of other
    domains, with graphs inside (Loop, If, Scan), that draw, or that answer from the rest of the batch as in training;
    functions and training graphs of the file's own; more than NODES operators, and tensors of a constant shape of more
    than ELEMENTS elements. A field that onnx.proto does not have is refused too, since another reader may know it.
    """
    try:
        model = read_onnx(content)
    except WireError as error:
        raise HallmarkError(f"{MODEL}: cannot be read as an ONNX file ({error})") from None
    for wrong in _wrong(model):
        raise HallmarkError(f"{MODEL}: {wrong}")


def _wrong(model: OnnxFile) -> Iterator[str]:
    """What the file may not hold, a sentence each."""
    if model.functions:
        yield "defines functions; only the operators of ONNX itself are run"
    if model.training:
        yield "holds training graphs, which have no place in a served file"
    if model.sparse:
        yield "holds sparse tensors, which a few bytes can make of any size; store them whole"
    if len(model.nodes) > NODES:
        yield f"has {len(model.nodes)} operators, at most {NODES} may be"
    for domain in model.domains:
        if domain not in STANDARD:
            yield f"asks for operators of {_shown(domain)}; only those of ONNX itself are run"
    for tensor in model.tensors:
        yield from _wrong_tensor(tensor)
    shapes = dict(_constants(model))
    for node in model.nodes:
        yield from _wrong_node(node)
        yield from _wrong_size(node, shapes)


def _wrong_tensor(tensor: Tensor) -> Iterator[str]:
    if tensor.external:
        yield f"keeps tensor {_shown(tensor.name)} in another file, which no digest covers; store it inside"
    # The densest types put two elements in a byte.
    elif min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) > 2 * tensor.size:
        yield f"tensor {_shown(tensor.name)} holds fewer bytes than its shape asks for"


def _wrong_node(node: Node) -> Iterator[str]:
    what = f"operator {_shown(node.operator)} ({_shown(node.name)})"
    if node.domain not in STANDARD:
        yield f"{what} is of {_shown(node.domain)}; only the operators of ONNX itself are run"
    if node.graphs:
        yield f"{what} has a graph inside, which may run without end; unroll it"
    if node.sparse:
        yield f"{what} holds sparse tensors, which a few bytes can make of any size; store them whole"
    if node.operator in RANDOM or (node.operator == "Dropout" and any(node.inputs[2:])):
        yield f"{what} draws at random, so that one image has many answers"
    if node.operator == "BatchNormalization" and any(node.numbers.get("training_mode", ())):
        yield f"{what} is in training mode, where an answer depends on the other images of its batch"
    for tensor in node.tensors:
        yield from _wrong_tensor(tensor)


def _wrong_size(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    place = MAKERS.get(node.operator, len(node.inputs))
    shape = shapes.get(node.inputs[place], ()) if place < len(node.inputs) else ()
    size = math.prod(max(1, length) for length in shape)
    if size > ELEMENTS:
        what = f"operator {_shown(node.operator)} ({_shown(node.name)})"
        yield f"{what} makes a tensor of {size} elements or more, at most {ELEMENTS} may be"


def _constants(model: OnnxFile) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The small whole-number constants of a file by name: initializers and the outputs of Constant."""
    for tensor in model.tensors:
        yield tensor.name, tensor.numbers
    for node in model.nodes:
        if node.operator == "Constant":
            found = [tensor.numbers for tensor in node.tensors] + [*node.numbers.values()]
            yield from ((name, max(found, key=len, default=())) for name in node.outputs)


def _shown(name: str) -> str:
    """A stranger's name as it may be printed: no control characters, and not longer than people read."""
    return ascii(name if len(name) <= SHOWN else name[:SHOWN] + "…")
