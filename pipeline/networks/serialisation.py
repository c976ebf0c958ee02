"""A network as files: safetensors with network.json, and ONNX.

Companions are the networks that a method trains beside the served one: a guide, peers, specialists. An attacker who knows
the method has them, so the evaluation carries their adversarial images over and attacks all at once. They lie in one
safetensors file, whose metadata says how each is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from bundle.digests import each_once, write_whole
from bundle.errors import HallmarkError
from bundle.layout import NETWORK, WEIGHTS
from pipeline.networks import NetworkError, build_network, rebuild
from pipeline.networks.blocks import to_unit
from pipeline.networks.tracing import place_of_error, place_of_operator, quietly, reason_of
from pipeline.run.records import read_input

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

#: Characters of what a library says of weights that do not fit.
REASON_WIDTH = 300


class ServedNetwork(nn.Module):
    """The whole way from the wire to the logits: uint8 images (N, H, W, C) to logits (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(to_unit(images.permute(0, 3, 1, 2)))


def load_network(folder: Path) -> nn.Module:
    """The network of a folder with network.json and weights.safetensors, in eval mode on the CPU.

    The folder is this run's own: a factory that it names is called. Raises HallmarkError where a file is missing or
    damaged, or a weight is missing or left over.
    """
    description, weights = (read_input(folder / name, "train") for name in (NETWORK, WEIGHTS))
    return read_network(description, weights, str(folder))


def read_network(description: bytes, weights: bytes, where: str) -> nn.Module:
    """The network of the contents of network.json and weights.safetensors, in eval mode on the CPU.

    `where` names them in messages. Raises HallmarkError in one sentence where they are damaged, do not fit together, or
    the network cannot be built here.
    """
    try:
        document = json.loads(description, object_pairs_hook=each_once)
        if not isinstance(document, dict):
            raise TypeError(f"{NETWORK} must be a JSON object")
        network = rebuild(document)
        network.load_state_dict(load(weights), strict=True)
    except NetworkError as error:
        raise NetworkError(f"{where}: {NETWORK}: {error}") from None
    except (ValueError, TypeError, KeyError, RuntimeError, RecursionError, SafetensorError) as error:
        reason = shorten(" ".join(str(error).split()), REASON_WIDTH, placeholder=" …")  # torch lists every weight
        raise HallmarkError(f"{where}: {NETWORK} and {WEIGHTS} do not fit together ({reason})") from None
    return network.eval()


def weights_bytes(network: nn.Module) -> bytes:
    """The content of weights.safetensors; tensors that share memory are written once for each of their names."""
    return save({name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()})


def to_onnx(network: nn.Module, image_shape: tuple[int, ...], *, opset: int) -> bytes:
    """One self-contained ONNX file: `images` uint8 (N, H, W, C) in, `logits` float (N, K) out, N free.

    The bytes depend on the network and the versions of torch and onnxscript alone: what the exporter notes of the place
    where it ran (stack traces with absolute paths) is taken out.
    """
    import onnx

    model = _exported(network, image_shape, opset)
    for node in _nodes(model.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    for function in model.functions:
        del function.metadata_props[:]
    del model.metadata_props[:]
    model.graph.name, model.graph.doc_string, model.doc_string = "hallmark", "", ""
    for key, value in (("exporter", f"torch {torch.__version__}"), ("opset", str(opset))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _exported(network: nn.Module, image_shape: tuple[int, ...], opset: int) -> ModelProto:
    """What torch's exporter makes of it; raises HallmarkError in one sentence where it refuses the network."""
    example = torch.zeros(2, *image_shape, dtype=torch.uint8)
    served = ServedNetwork(network).eval()
    try:
        with quietly():
            program = torch.onnx.export(
                served,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=opset,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except Exception as error:  # the network's own code runs with stand-ins, and every step has errors of its own
        if _lacked_memory(error):
            raise MemoryError from None
        raise HallmarkError(_refusal(error, served, example)) from None
    assert program is not None  # dynamo=True without a file returns the program
    if not program.model_proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise HallmarkError(
            "network: cannot be exported to ONNX for batches of any size; its code goes through the images one by one, or "
            "counts them in Python"
        )
    return program.model_proto


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether memory ended somewhere below; CPython's own code then fails with a SystemError as well."""
    return error is not None and (
        isinstance(error, MemoryError | SystemError) or _lacked_memory(error.__cause__ or error.__context__)
    )


def _refusal(error: BaseException, served: nn.Module, example: Tensor) -> str:
    """One sentence with the reason, and the place in the network's code."""
    reason = reason_of(error)
    if operator := re.search(r"No ONNX function found for .*'(aten\.\w+)'", reason):
        with quietly():
            traced = torch.export.export(served, (example,), strict=False).run_decompositions()
        place = place_of_operator(traced, operator[1])
        return f"network: cannot be exported to ONNX, which has nothing for torch's {operator[1]}{place}"
    return f"network: cannot be exported to ONNX ({reason}){place_of_error(error)}"


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


FILE = "companions.safetensors"


def save_companions(folder: Path, descriptions: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Writes the file. `descriptions` has each network's description by its name; `weights` are named `NAME.parameter`."""
    content = save(
        {name: value.contiguous() for name, value in weights.items()}, {"networks": json.dumps(dict(descriptions))}
    )
    write_whole(folder / FILE, content)


def load_companions(folder: Path) -> dict[str, nn.Module]:
    """The networks of a folder by name, in eval mode on the CPU; none where there is no file.

    Raises HallmarkError where the file is damaged, or a weight is missing or left over.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with safe_open(path, "pt") as file:
            descriptions = json.loads((file.metadata() or {})["networks"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
        return {name: _built(name, description, weights) for name, description in descriptions.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = shorten(" ".join(str(error).split()), 300, placeholder=" …")
        raise HallmarkError(f"{path}: not readable ({reason}); the stage train makes it (`dvc repro train`)") from None


def _built(name: str, description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    network = build_network(**description)
    prefix = f"{name}."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    network.load_state_dict(own, strict=True)
    return network.eval()
