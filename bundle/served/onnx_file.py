"""What an ONNX file says about itself: operators, tensors and where they lie; weights are not read.

The numbers of the fields are those of onnx.proto (ONNX 1.20). The `onnx` package would bring 30 MB and a parser that
forgives; these few fields are all that a bundle's checks need, and they need no ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bundle.served.wire import Field, Value, Values, Wire, WireError, WireType, packed, signed

#: Fields of a file in all; a network of a thousand nodes has some ten thousand.
FIELDS = 1_000_000
#: The largest message of a tensor or attribute whose numbers are read: shapes and their kin are this small.
SMALL = 1024
#: TensorProto.DataType.INT64.
INT64 = 7

_VARINT, _BYTES = WireType.VARINT, WireType.BYTES
_FIXED32, _FIXED64 = WireType.FIXED32, WireType.FIXED64

MODEL = {
    1: Field("ir_version", _VARINT),
    2: Field("producer_name", _BYTES),
    3: Field("producer_version", _BYTES),
    4: Field("domain", _BYTES),
    5: Field("model_version", _VARINT),
    6: Field("doc_string", _BYTES),
    7: Field("graph", _BYTES),
    8: Field("opset_import", _BYTES, repeated=True),
    14: Field("metadata_props", _BYTES, repeated=True),
    20: Field("training_info", _BYTES, repeated=True),
    25: Field("functions", _BYTES, repeated=True),
    26: Field("configuration", _BYTES, repeated=True),
}
OPSET = {1: Field("domain", _BYTES), 2: Field("version", _VARINT)}
GRAPH = {
    1: Field("node", _BYTES, repeated=True),
    2: Field("name", _BYTES),
    5: Field("initializer", _BYTES, repeated=True),
    10: Field("doc_string", _BYTES),
    11: Field("input", _BYTES, repeated=True),
    12: Field("output", _BYTES, repeated=True),
    13: Field("value_info", _BYTES, repeated=True),
    14: Field("quantization_annotation", _BYTES, repeated=True),
    15: Field("sparse_initializer", _BYTES, repeated=True),
    16: Field("metadata_props", _BYTES, repeated=True),
}
NODE = {
    1: Field("input", _BYTES, repeated=True),
    2: Field("output", _BYTES, repeated=True),
    3: Field("name", _BYTES),
    4: Field("op_type", _BYTES),
    5: Field("attribute", _BYTES, repeated=True),
    6: Field("doc_string", _BYTES),
    7: Field("domain", _BYTES),
    8: Field("overload", _BYTES),
    9: Field("metadata_props", _BYTES, repeated=True),
    10: Field("device_configurations", _BYTES, repeated=True),
}
ATTRIBUTE = {
    1: Field("name", _BYTES),
    2: Field("f", _FIXED32),
    3: Field("i", _VARINT),
    4: Field("s", _BYTES),
    5: Field("t", _BYTES),
    6: Field("g", _BYTES),
    7: Field("floats", _FIXED32, repeated=True),
    8: Field("ints", _VARINT, repeated=True),
    9: Field("strings", _BYTES, repeated=True),
    10: Field("tensors", _BYTES, repeated=True),
    11: Field("graphs", _BYTES, repeated=True),
    13: Field("doc_string", _BYTES),
    14: Field("tp", _BYTES),
    15: Field("type_protos", _BYTES, repeated=True),
    20: Field("type", _VARINT),
    21: Field("ref_attr_name", _BYTES),
    22: Field("sparse_tensor", _BYTES),
    23: Field("sparse_tensors", _BYTES, repeated=True),
}
TENSOR = {
    1: Field("dims", _VARINT, repeated=True),
    2: Field("data_type", _VARINT),
    3: Field("segment", _BYTES),
    4: Field("float_data", _FIXED32, repeated=True),
    5: Field("int32_data", _VARINT, repeated=True),
    6: Field("string_data", _BYTES, repeated=True),
    7: Field("int64_data", _VARINT, repeated=True),
    8: Field("name", _BYTES),
    9: Field("raw_data", _BYTES),
    10: Field("double_data", _FIXED64, repeated=True),
    11: Field("uint64_data", _VARINT, repeated=True),
    12: Field("doc_string", _BYTES),
    13: Field("external_data", _BYTES, repeated=True),
    14: Field("data_location", _VARINT),
    16: Field("metadata_props", _BYTES, repeated=True),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor that a file holds.

    `size` is the bytes of its whole message; `external`, whether its data is said to lie in another file; `numbers`, the
    content of a small int64 tensor, as shapes are, and empty for others.
    """

    name: str
    dims: tuple[int, ...]
    size: int
    external: bool
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Node:
    """One operator. `graphs` and `sparse` count attributes of such a kind; `numbers` are its small whole-number attributes."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[Tensor, ...] = ()
    graphs: int = 0
    sparse: int = 0
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file's operators and tensors; `functions`, `training` and `sparse` count what a served file has none of."""

    domains: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    functions: int
    training: int
    sparse: int


def read_onnx(content: bytes) -> OnnxFile:
    """Reads the bytes of an ONNX file; raises WireError in one sentence where they are none."""
    return _Reader(content).file()


class _Reader:
    """Reads one file; every message counts against the same limit of fields."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._wire = Wire(FIELDS)

    def file(self) -> OnnxFile:
        model = self._wire.fields(self._content, MODEL, "the model")
        if "graph" not in model:
            raise WireError("the model: has no graph")
        graph = self._wire.fields(_messages(model, "graph")[0], GRAPH, "the graph")
        opsets = [self._wire.fields(item, OPSET, "an operator set") for item in _messages(model, "opset_import")]
        return OnnxFile(
            domains=tuple(_text(item, "domain", "an operator set") for item in opsets),
            nodes=tuple(self._node(item) for item in _messages(graph, "node")),
            tensors=tuple(self._tensor(item) for item in _messages(graph, "initializer")),
            functions=len(_messages(model, "functions")),
            training=len(_messages(model, "training_info")),
            sparse=len(_messages(graph, "sparse_initializer")),
        )

    def _node(self, message: memoryview) -> Node:
        found = self._wire.fields(message, NODE, "a node")
        messages = _messages(found, "attribute")
        attributes = [self._wire.fields(item, ATTRIBUTE, "an attribute") for item in messages]
        small = [part for part, item in zip(attributes, messages, strict=True) if len(item) <= SMALL]
        return Node(
            name=_text(found, "name", "a node"),
            operator=_text(found, "op_type", "a node"),
            domain=_text(found, "domain", "a node"),
            inputs=tuple(_decoded(item, "a node: input") for item in _messages(found, "input")),
            outputs=tuple(_decoded(item, "a node: output") for item in _messages(found, "output")),
            tensors=tuple(self._tensor(item) for part in attributes for item in _messages(part, "t", "tensors")),
            graphs=sum(len(_messages(part, "g", "graphs")) for part in attributes),
            sparse=sum(len(_messages(part, "sparse_tensor", "sparse_tensors")) for part in attributes),
            numbers={_text(part, "name", "an attribute"): tuple(_numbers(part, "i", "ints")) for part in small},
        )

    def _tensor(self, message: memoryview) -> Tensor:
        found = self._wire.fields(message, TENSOR, "a tensor")
        small = len(message) <= SMALL and found.get("data_type") == [INT64]
        return Tensor(
            name=_text(found, "name", "a tensor"),
            dims=tuple(_numbers(found, "dims")),
            size=len(message),
            # Any location but the default is another place, whatever a reader makes of an unknown number.
            external="external_data" in found or found.get("data_location", [0]) != [0],
            numbers=tuple(_content(found)) if small else (),
        )


def _messages(found: Values, *names: str) -> list[memoryview]:
    return [value for name in names for value in found.get(name, []) if isinstance(value, memoryview)]


def _numbers(found: Values, *names: str) -> Iterator[int]:
    """The int64 values of some fields, packed or one by one; raises WireError where they are too many."""
    for name in names:
        for value in found.get(name, []):
            if isinstance(value, memoryview) and len(value) > SMALL:
                raise WireError(f"{name}: has more than {SMALL} bytes")
            yield from map(signed, [value] if isinstance(value, int) else packed(value, name))


def _content(found: Values) -> Iterator[int]:
    """The numbers of an int64 tensor, which lie in `int64_data` or, in 8 bytes each, in `raw_data`."""
    yield from _numbers(found, "int64_data")
    for raw in _messages(found, "raw_data"):
        for place in range(0, len(raw), 8):
            yield int.from_bytes(raw[place : place + 8], "little", signed=True)


def _text(found: Values, name: str, what: str) -> str:
    return "".join(_decoded(value, f"{what}: {name}") for value in found.get(name, []))


def _decoded(value: Value, what: str) -> str:
    try:
        return bytes(value).decode() if isinstance(value, memoryview) else str(value)
    except UnicodeDecodeError:
        raise WireError(f"{what} is not UTF-8") from None
