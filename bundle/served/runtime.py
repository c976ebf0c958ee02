"""The served classifier: ONNX Runtime over the exported file, 8-bit images in, logits out.

ONNX Runtime takes more into an answer than the file: what of that can be closed is closed here, and docs/serving.md lists
what is left. What a file may make it do is bounded: bundle.served.model_file says by what it holds, and MEMORY, FOLDED and
`seconds` say by what it may take.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.served.model_file import NODES, check_model_file

#: Bytes that weights and operators' results of all models of a process may take together on the CPU.
MEMORY = 4 << 30
#: Bytes of the largest constant that is computed while a model is loaded, which MEMORY does not cover: with as many
#: operators as a file may have, as much again.
FOLDED = MEMORY // NODES
#: Seconds that a stranger's model may take to be loaded, and for one batch.
PATIENCE = 120.0
#: Variables of the environment that would change answers or settings behind a signature, and what they do.
CHANGING = {
    "ORT_LOAD_CONFIG_FROM_MODEL": "it lets a model file set its own options",
    "NVIDIA_TF32_OVERRIDE": "it has verdicts computed in less than float32",
}
#: Images of a batch at most, and how many levels they have together.
BATCH, LEVELS = 256, 1 << 22


class OnnxClassifier:
    """A model file ready to answer.

    Parameters
    ----------
    model : the file's bytes, so that what was verified is what runs.
    threads : CPU threads of one call.
    device : `auto` takes CUDA where ONNX Runtime has it, `cpu` and `cuda` insist.
    seconds : how long loading and each call may take; None for no limit. An operator that has begun is let finish.

    Raises HallmarkError where the file is none that may be served (bundle.served.model_file), cannot run, takes more
    than MEMORY or `seconds`, or CUDA was asked for and is not there.
    """

    def __init__(self, model: bytes, *, threads: int = 2, device: str = "auto", seconds: float | None = None) -> None:
        check_model_file(model)
        providers = _providers(device)
        options = _options(threads)
        self._seconds = seconds
        with _patient(seconds, lambda: options.set_load_cancellation_flag(True), "cannot load it"):
            # Trying again with the CPU alone is of use after CUDA only, and is told on standard output.
            fallback: dict[str, Any] = {"enable_fallback": len(providers) > 1}
            self._session = onnxruntime.InferenceSession(model, options, providers=providers, **fallback)
        self.threads = threads
        self.provider: str = self._session.get_providers()[0]
        #: Whether ONNX Runtime said nothing and took the CPU where CUDA was meant.
        self.fell_back = len(providers) > 1 and self.provider == "CPUExecutionProvider"
        if device == "cuda" and self.provider != "CUDAExecutionProvider":
            raise HallmarkError("device cuda: ONNX Runtime fell back to the CPU; check the CUDA libraries")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            [item.name for item in inputs] != ["images"]
            or inputs[0].type != "tensor(uint8)"
            or len(inputs[0].shape) != 4
        ):
            raise HallmarkError("model.onnx: must take one uint8 input `images` of shape (N, H, W, C)")
        if [item.name for item in outputs] != ["logits"] or outputs[0].type != "tensor(float)":
            raise HallmarkError("model.onnx: must return one float output `logits` of shape (N, K)")
        sizes: list[Any] = [*inputs[0].shape[1:], *outputs[0].shape[1:]]
        if len(sizes) != 4 or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise HallmarkError("model.onnx: must state H, W, C and K, each as a whole number above 0")
        height, width, channels, self.classes = sizes
        self.image_shape: tuple[int, int, int] = (height, width, channels)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, K), float32, of images uint8 (N, H, W, C)."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise HallmarkError(
                f"images: must be uint8 (N, {', '.join(map(str, self.image_shape))}), got {images.dtype} {images.shape}"
            )
        options = None if self._seconds is None else onnxruntime.RunOptions()
        with _patient(self._seconds, lambda: setattr(options, "terminate", True), "cannot run it"):
            logits: Any = self._session.run(["logits"], {"images": np.ascontiguousarray(images)}, options)[0]
        if logits.shape != (len(images), self.classes):
            raise HallmarkError(f"model.onnx: answers {len(images)} images with logits of shape {logits.shape}")
        return logits

    def logits_in_batches(self, images: NDArray[np.uint8], batch_size: int | None = None) -> NDArray[np.float32]:
        """The same for many images, `batch_size` at a time; None: as many as memory has room for."""
        step = batch_size or max(1, min(BATCH, LEVELS // math.prod(self.image_shape)))
        return np.concatenate([self.logits(images[start : start + step]) for start in range(0, len(images), step)])


@contextmanager
def _patient(seconds: float | None, stop: Callable[[], None], failed: str) -> Generator[None]:
    """Calls `stop` after so many seconds, and makes a sentence of whatever ONNX Runtime raises."""
    late = threading.Event()
    timer = None if seconds is None else threading.Timer(seconds, lambda: (late.set(), stop()))
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no common class
        reason = f"ONNX Runtime {failed} ({str(error).splitlines()[0]})"
        if late.is_set():
            reason = f"takes longer than {seconds:g} seconds"
        elif "Available memory of" in str(error):
            reason = f"takes more than {MEMORY >> 30} GiB of memory"
        raise HallmarkError(f"model.onnx: {reason}") from None
    finally:
        if timer is not None:
            timer.cancel()


def _options(threads: int) -> Any:
    """The options of a session: nothing but the file's own bytes decides an answer, and its memory has a limit."""
    for name, what in CHANGING.items():
        if os.environ.get(name, "0") != "0":
            raise HallmarkError(f"{name}: must be 0 or unset in the environment, since {what}")
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and said once
    options.use_deterministic_compute = True
    entries = {
        # Spinning threads take the other sessions' cores; a model this small loses nothing without them.
        "session.intra_op.allow_spinning": "0",
        # Else the first bytes would say whether this is ONNX Runtime's own format, which model_file does not read.
        "session.load_model_format": "ONNX",
        # Tensors in other files, which are refused already, would be looked for in the working directory.
        "session.model_external_initializers_file_folder_path": os.devnull,
        "session.use_env_allocators": "1",
        "optimization.constant_folding_max_output_size_in_bytes": str(FOLDED),
    }
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return options


@cache
def _limit_memory() -> None:
    """Gives the process one arena of at most MEMORY bytes, of which every session takes its CPU memory."""
    kind, use = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    place = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, use)
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": MEMORY}))


def _providers(device: str) -> list[Any]:
    available = onnxruntime.get_available_providers()
    cpu: list[Any] = ["CPUExecutionProvider"]
    if device == "cpu" or "CUDAExecutionProvider" not in available:
        if device == "cuda":
            raise HallmarkError(
                "device cuda: this ONNX Runtime has no CUDA; install onnxruntime-gpu or set device: auto"
            )
        return cpu
    if device == "auto" and not _cuda_device():
        return cpu
    onnxruntime.preload_dlls(msvc=False)  # CUDA and cuDNN of this environment's packages, which torch alone would find
    # A verdict is float32: TF32 would move logits by a thousandth.
    return [("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), *cpu]


def _cuda_device() -> bool:
    """Whether a CUDA device is there; asked first, since ONNX Runtime writes an error for each session that lacks one."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()
