"""The served classifier: ONNX Runtime over the exported file, 8-bit images in, logits out."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bundle.errors import HallmarkError


class ModelError(HallmarkError):
    """The ONNX file cannot be run, or does not keep the contract: uint8 (N, H, W, C) in, float logits (N, K) out."""


class OnnxClassifier:
    """A model file ready to answer.

    Parameters
    ----------
    model : the file's bytes (so that what was verified is what runs) or its path.
    threads : CPU threads of one call.
    device : `auto` takes CUDA where ONNX Runtime has it, `cpu` and `cuda` insist.

    Raises ModelError where the file is no such model, or CUDA was asked for and is not there.
    """

    def __init__(self, model: bytes | str | Path, *, threads: int = 2, device: str = "auto") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take the other sessions' cores; a model this small loses nothing without them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        providers = _providers(device)
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._session = onnxruntime.InferenceSession(source, options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise ModelError(f"model.onnx: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None
        self.threads = threads
        self.provider: str = self._session.get_providers()[0]
        #: Whether ONNX Runtime said nothing and took the CPU where CUDA was meant.
        self.fell_back = len(providers) > 1 and self.provider == "CPUExecutionProvider"
        if device == "cuda" and self.provider != "CUDAExecutionProvider":
            raise ModelError("device cuda: ONNX Runtime fell back to the CPU; check the CUDA libraries")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            [item.name for item in inputs] != ["images"]
            or inputs[0].type != "tensor(uint8)"
            or len(inputs[0].shape) != 4
        ):
            raise ModelError("model.onnx: must take one uint8 input `images` of shape (N, H, W, C)")
        if [item.name for item in outputs] != ["logits"] or outputs[0].type != "tensor(float)":
            raise ModelError("model.onnx: must return one float output `logits` of shape (N, K)")
        height, width, channels = inputs[0].shape[1:]
        self.image_shape: tuple[int, int, int] = (height, width, channels)
        self.classes: int = outputs[0].shape[1]

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, K), float32, of images uint8 (N, H, W, C)."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise ModelError(
                f"images: must be uint8 (N, {', '.join(map(str, self.image_shape))}), got {images.dtype} {images.shape}"
            )
        logits: Any = self._session.run(["logits"], {"images": np.ascontiguousarray(images)})[0]
        return logits

    def logits_in_batches(self, images: NDArray[np.uint8], batch_size: int = 256) -> NDArray[np.float32]:
        """The same for many images, `batch_size` at a time."""
        starts = range(0, len(images), batch_size)
        return np.concatenate([self.logits(images[start : start + batch_size]) for start in starts])


def _providers(device: str) -> list[Any]:
    available = onnxruntime.get_available_providers()
    cpu: list[Any] = ["CPUExecutionProvider"]
    if device == "cpu" or "CUDAExecutionProvider" not in available:
        if device == "cuda":
            raise ModelError("device cuda: this ONNX Runtime has no CUDA; install onnxruntime-gpu or set device: auto")
        return cpu
    if device == "auto" and not _cuda_device():
        return cpu
    onnxruntime.preload_dlls(msvc=False)  # CUDA and cuDNN of this environment's packages, which torch alone would find
    # A verdict is float32: TF32 would move logits by a thousandth.
    return [("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), *cpu]


def _cuda_device() -> bool:
    """Whether a CUDA device is there; asked first, since ONNX Runtime writes an error for each session that lacks one."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
