"""Model files of strangers: what must be inside, what is refused, and that nothing else is needed to read them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from audit.cli import app
from bundle.assembly import assemble
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.layout import MODEL, WEIGHTS
from bundle.served import onnx_file
from bundle.served.model_file import ELEMENTS, NODES, check_model_file
from bundle.served.onnx_file import read_onnx
from bundle.served.runtime import OnnxClassifier
from bundle.served.wire import WireType
from tests import models
from tests.audit.tampering import rewrite
from tests.bundles import make_bundle

Edit = Callable[[onnx.ModelProto], object]


def refusal(model: onnx.ModelProto | bytes) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(HallmarkError) as error:
        check_model_file(content)
    said = str(error.value)
    assert said.startswith("model.onnx: ") and "\n" not in said and said.isprintable()
    return said.removeprefix("model.onnx: ")


def test_honest_files_pass_and_are_read_as_the_onnx_package_reads_them() -> None:
    model = models.honest()
    check_model_file(model.SerializeToString())
    found = read_onnx(model.SerializeToString())
    assert [(node.operator, node.domain, node.inputs, node.outputs) for node in found.nodes] == [
        (node.op_type, node.domain, tuple(node.input), tuple(node.output)) for node in model.graph.node
    ]
    assert [(item.name, item.dims, item.size) for item in found.tensors] == [
        (item.name, tuple(item.dims), item.ByteSize()) for item in model.graph.initializer
    ]


@pytest.mark.parametrize("raw", [True, False])
def test_small_whole_numbers_are_read_in_either_form(raw: bool) -> None:
    numbers = [3, -1, 0, 2**62, -(2**63)]
    packed = np.array(numbers, np.int64).tobytes() if raw else numbers
    tensor = helper.make_tensor("shape", TensorProto.INT64, [5], packed, raw=raw)
    model = models.honest()
    model.graph.initializer.append(tensor)
    assert read_onnx(model.SerializeToString()).tensors[-1].numbers == tuple(numbers)


@pytest.mark.parametrize(
    ("message", "known"),
    [
        ("ModelProto", onnx_file.MODEL),
        ("GraphProto", onnx_file.GRAPH),
        ("NodeProto", onnx_file.NODE),
        ("AttributeProto", onnx_file.ATTRIBUTE),
        ("TensorProto", onnx_file.TENSOR),
        ("OperatorSetIdProto", onnx_file.OPSET),
    ],
)
def test_the_fields_are_those_of_onnx_proto(message: str, known: dict[int, onnx_file.Field]) -> None:
    wires = {1: WireType.FIXED64, 2: WireType.FIXED32, 3: WireType.VARINT, 4: WireType.VARINT, 5: WireType.VARINT}
    wires |= {14: WireType.VARINT, 9: WireType.BYTES, 11: WireType.BYTES, 12: WireType.BYTES}
    fields = getattr(onnx, message).DESCRIPTOR.fields
    assert {field.number: (field.name, wires[field.type]) for field in fields} == {
        number: (field.name, field.wire) for number, field in known.items()
    }
    for field in fields:
        value = getattr(getattr(onnx, message)(), field.name)
        assert known[field.number].repeated == hasattr(value, "append"), field.name


def add(*nodes: onnx.NodeProto, **constants: NDArray[Any]) -> Callable[[], onnx.ModelProto]:
    return lambda: models.extended(nodes, constants)


def edited(edit: Edit) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        model = models.honest()
        edit(model)
        return model

    return make


def scan() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["row"], ["same"])],
        "body",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, [10])],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, [10])],
    )
    model = models.honest()
    model.graph.node[-1].output[0] = "linear"
    model.graph.node.append(helper.make_node("Scan", ["linear"], ["logits"], body=body, num_scan_inputs=1))
    return model


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "few")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [10**11]))


def short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [10**11]


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("", "Own", ["x"], ["y"], [node], [helper.make_opsetid("", 20)]))


def otherwise(location: int) -> Edit:
    return lambda model: setattr(model.graph.initializer[0], "data_location", location)


def in_attribute(model: onnx.ModelProto) -> None:
    tensor = models.external()[0].graph.initializer[1]
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


SHAPE = np.array([10**11], np.int64)
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "external data": (lambda: models.external()[0], "keeps tensor 'weight' in another file, which no digest covers"),
    "external, of an attribute": (edited(in_attribute), "keeps tensor 'weight' in another file"),
    "external, said and not named": (edited(otherwise(1)), "keeps tensor 'levels' in another file"),
    "an address in memory": (lambda: models.external("*/_ORT_MEM_ADDR_/*")[0], "keeps tensor 'weight' in another file"),
    "Loop": (models.endless, "operator 'Loop' ('for ever') has a graph inside, which may run without end"),
    "Scan": (scan, "operator 'Scan' ('') has a graph inside"),
    "ConstantOfShape": (lambda: models.constant(10**11), "makes a tensor of 100000000000 elements or more"),
    "Expand": (add(helper.make_node("Expand", ["levels", "big"], ["x"]), big=SHAPE), "operator 'Expand' ('') makes"),
    "Expand, of a Constant": (
        add(
            helper.make_node("Constant", [], ["big"], value=numpy_helper.from_array(SHAPE)),
            helper.make_node("Expand", ["levels", "big"], ["x"]),
        ),
        "operator 'Expand' ('') makes",
    ),
    "Expand, of value_ints": (
        add(
            helper.make_node("Constant", [], ["big"], value_ints=[1 << 20, 1 << 20]),
            helper.make_node("Expand", ["levels", "big"], ["x"]),
        ),
        f"makes a tensor of {1 << 40} elements or more, at most {ELEMENTS} may be",
    ),
    "Tile": (add(helper.make_node("Tile", ["bias", "big"], ["x"]), big=SHAPE), "operator 'Tile' ('') makes"),
    "another domain": (
        add(helper.make_node("FusedGemm", ["flat", "weight"], ["x"], domain="com.microsoft")),
        "operator 'FusedGemm' ('') is of 'com.microsoft'; only the operators of ONNX itself are run",
    ),
    "another operator set": (lambda: models.extended([], {}, ["own\n"]), "asks for operators of 'own\\n'"),
    "chance": (add(helper.make_node("RandomNormalLike", ["bias"], ["x"])), "'RandomNormalLike' ('') draws at random"),
    "dropout": (
        add(helper.make_node("Dropout", ["bias", "levels", "yes"], ["x"]), yes=np.array(True)),
        "operator 'Dropout' ('') draws at random",
    ),
    "batch statistics": (
        add(helper.make_node("BatchNormalization", ["unit", "a", "a", "a", "a"], ["x", "y", "z"], training_mode=1)),
        "operator 'BatchNormalization' ('') is in training mode",
    ),
    "functions": (edited(function), "defines functions"),
    "training": (edited(lambda model: model.training_info.add()), "holds training graphs"),
    "sparse": (edited(sparse), "holds sparse tensors"),
    "a shape without data": (edited(short), "tensor 'levels' holds fewer bytes than its shape asks for"),
    "a negative shape": (edited(lambda model: model.graph.initializer[0].dims.extend([-1])), "tensor 'levels' holds"),
    "many operators": (
        add(*(helper.make_node("Identity", ["bias"], [f"copy{number}"]) for number in range(NODES))),
        f"has {NODES + 5} operators, at most {NODES} may be",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_served_file_may_hold(kind: str) -> None:
    make, said = REFUSED[kind]
    assert said in refusal(make())


GRAPH = 7 << 3 | 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the model: has no graph"),
        (b"ORTM", "the model: "),
        (bytes([GRAPH, 5, 0]), "the model: graph: is cut off"),
        (bytes([GRAPH, 0, GRAPH, 0]), "the model: has graph twice"),
        (bytes([GRAPH, 0x80, 0x00]), "written too long"),
        (bytes([GRAPH | 0x80, 0x00, 0]), "written too long"),
        (bytes([GRAPH, *[0xFF] * 9, 0x7F]), "written too long"),
        (bytes([GRAPH, 0x80]), "is cut off"),
        (bytes([7 << 3, 1]), "the model: graph has the wrong wire type"),
        (bytes([7 << 3 | 3]), "the model: graph has the wrong wire type"),
        (bytes([9 << 3, 1]), "the model: has an unknown field (number 9)"),
        (bytes([GRAPH, 5, 10, 3, 34, 1, 255]), "a node: op_type is not UTF-8"),
        (bytes([GRAPH, 0, 64, 0]), "opset_import has the wrong wire type"),
    ],
)
def test_what_is_no_onnx_file_as_serialisers_write_it(content: bytes, said: str) -> None:
    assert said in refusal(content)


def test_a_small_file_of_very_many_fields_is_given_up() -> None:
    many = bytes([10, 0]) * 1_100_000
    length = bytes([len(many) & 127 | 128, len(many) >> 7 & 127 | 128, len(many) >> 14 & 127 | 128, len(many) >> 21])
    assert "more than 1000000 fields" in refusal(bytes([GRAPH]) + length + many)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_bytes_are_read_or_refused_in_one_sentence(data: st.DataObject) -> None:
    """Whatever a byte becomes, there is no other exception; and what passes is what the onnx package reads, too."""
    content = bytearray(models.by_batch().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for changed in (bytes(content), bytes(content[:cut])):
        try:
            check_model_file(changed)
        except HallmarkError as error:
            assert "\n" not in str(error) and str(error).isprintable()
            continue
        # What decides nothing here (types, texts) is not opened, and may be damaged: then ONNX Runtime refuses it.
        with contextlib.suppress(DecodeError):
            theirs = onnx.load_from_string(changed)
            assert [node.operator for node in read_onnx(changed).nodes] == [n.op_type for n in theirs.graph.node]
            assert not any(item.data_location or item.external_data for item in theirs.graph.initializer)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_sentence(content: bytes) -> None:
    try:
        check_model_file(content)
    except HallmarkError as error:
        assert "\n" not in str(error) and str(error).isprintable()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("master") / "bundle", rows=20, tier="quick")


@pytest.mark.parametrize("kind", ["external data", "Loop", "ConstantOfShape", "another domain"])
def test_such_a_bundle_is_neither_opened_verified_nor_assembled(kind: str, master: Path, tmp_path: Path) -> None:
    make, said = REFUSED[kind]
    content, folder = make().SerializeToString(), shutil.copytree(master, tmp_path / "bundle")
    bundle = open_bundle(folder)
    rewrite(folder, files={MODEL: content})
    with pytest.raises(HallmarkError, match=r"^model\.onnx: "):
        open_bundle(folder)
    result = CliRunner().invoke(app, ["verify", str(folder)])
    assert result.exit_code == 1 and said in result.output
    with pytest.raises(HallmarkError, match=r"^model\.onnx: "):
        assemble(
            tmp_path / "new",
            model=content,
            weights=bundle.weights,
            outcomes=bundle.outcomes,
            images=bundle.images,
            predicate=bundle.predicate,
        )
    assert not (tmp_path / "new").exists()
    with pytest.raises(HallmarkError, match=r"^model\.onnx: "):
        OnnxClassifier(content, device="cpu")
    assert WEIGHTS in bundle.files


def test_a_file_beside_the_process_is_no_part_of_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was reported: ONNX Runtime alone takes it from the working directory; past the check it finds no such place."""
    model, weights = models.external()
    (tmp_path / "weights.bin").write_bytes(weights)
    monkeypatch.chdir(tmp_path)
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    monkeypatch.setattr("bundle.served.runtime.check_model_file", lambda content: None)
    with pytest.raises(HallmarkError, match=r"^model.onnx: ONNX Runtime cannot load it .*External data"):
        OnnxClassifier(model.SerializeToString(), device="cpu")


@pytest.mark.parametrize("name", ["ORT_LOAD_CONFIG_FROM_MODEL", "NVIDIA_TF32_OVERRIDE"])
def test_the_environment_changes_no_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = models.honest().SerializeToString()
    monkeypatch.setenv(name, "1")
    with pytest.raises(HallmarkError, match=f"^{name}: must be 0 or unset in the environment"):
        OnnxClassifier(content, device="cpu")
    monkeypatch.setenv(name, "0")
    assert OnnxClassifier(content, device="cpu").classes == 10


def test_what_cannot_be_loaded_is_said_once_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("NoSuchOperator", ["bias"], [models.EXTRA])
    with pytest.raises(HallmarkError, match=r"^model\.onnx: ONNX Runtime cannot load it \(.*NoSuchOperator"):
        OnnxClassifier(models.extended([node], {}).SerializeToString(), device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model", ["square(50_000)", "constant(1 << 28)"])
def test_memory_has_a_limit_where_no_shape_in_the_file_is_large(model: str) -> None:
    """In a process of its own, whose largest memory is told. One GiB is within the limit, ten are not."""
    program = f"""
import resource
from bundle.errors import HallmarkError
from bundle.served.runtime import OnnxClassifier
from tests import models
try:
    OnnxClassifier(models.{model}.SerializeToString(), device="cpu").logits(models.images(2))
except HallmarkError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *said, gibibytes = ended.stdout.splitlines()
    assert said == (["model.onnx: takes more than 4 GiB of memory"] if "square" in model else []) and ended.stderr == ""
    assert int(gibibytes) <= 1


def test_a_strangers_model_is_given_up_after_its_time() -> None:
    content = models.slow(2000).SerializeToString()
    classifier = OnnxClassifier(content, threads=1, device="cpu", seconds=1.0)
    with pytest.raises(HallmarkError, match=r"^model.onnx: takes longer than 1 seconds$"):
        classifier.logits(models.images(1))


def test_a_model_states_its_sizes_and_keeps_to_them() -> None:
    model = models.honest()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    with pytest.raises(HallmarkError, match="must state H, W, C and K"):
        OnnxClassifier(model.SerializeToString(), device="cpu")
    model = models.honest()
    model.graph.node[-1].output[0] = "linear"
    model.graph.node.append(helper.make_node("Concat", ["linear", "linear"], ["logits"], axis=0))
    classifier = OnnxClassifier(model.SerializeToString(), device="cpu")
    with pytest.raises(HallmarkError, match=r"answers 3 images with logits of shape \(6, 10\)"):
        classifier.logits(models.images(3))


@pytest.mark.parametrize("what", ["another name", "another type", "one more"])
def test_a_model_returns_float_logits_and_nothing_else(what: str) -> None:
    model = models.honest()
    logits = model.graph.output[0]
    if what == "another name":
        model.graph.node[-1].output[0] = logits.name = "scores"
    elif what == "another type":
        model.graph.node[-1].output[0] = "single"
        model.graph.node.append(helper.make_node("Cast", ["single"], ["logits"], to=TensorProto.DOUBLE))
        logits.type.tensor_type.elem_type = TensorProto.DOUBLE
    else:
        model.graph.node.append(helper.make_node("Identity", ["logits"], ["more"]))
        model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 10]))
    with pytest.raises(HallmarkError, match="must return one float output `logits`"):
        OnnxClassifier(model.SerializeToString())
