"""A network as files: safetensors with network.json, and ONNX."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bundle.digests import each_once
from bundle.errors import HallmarkError
from bundle.layout import NETWORK, WEIGHTS
from pipeline.attacks.threat import to_unit
from pipeline.networks import NetworkError, rebuild
from pipeline.networks.tracing import place_of_error, place_of_operator, quietly, reason_of
from pipeline.records import read_input

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


def _exported(network: nn.Module, image_shape: tuple[int, ...], opset: int):
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
        raise HallmarkError(_refusal(error, served, example)) from None
    assert program is not None  # dynamo=True without a file returns the program
    if not program.model_proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise HallmarkError(
            "network: cannot be exported to ONNX for batches of any size; its code goes through the images one by one, or "
            "counts them in Python"
        )
    return program.model_proto


def _refusal(error: BaseException, served: nn.Module, example: Tensor) -> str:
    """One sentence with the reason, and the place in the network's code."""
    reason = reason_of(error)
    if operator := re.search(r"No ONNX function found for .*'(aten\.\w+)'", reason):
        with quietly():
            traced = torch.export.export(served, (example,), strict=False).run_decompositions()
        place = place_of_operator(traced, operator[1])
        return f"network: cannot be exported to ONNX, which has nothing for torch's {operator[1]}{place}"
    return f"network: cannot be exported to ONNX ({reason}){place_of_error(error)}"


def _nodes(graph):
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
