"""What every stage does around its work: validate the whole params.yaml, set the threads, hold the lock, speak clearly."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from bundle.command_line import run_command
from bundle.digests import canonical_json, write_whole
from bundle.errors import HallmarkError, sentence
from bundle.process import plain_streams
from pipeline.params import Params
from pipeline.params.reading import ParamsError
from pipeline.resolve import load_params
from pipeline.run.cache import locked

OUT = Path("out")
#: What holds after a refusal: dvc.yaml has every output as `persist`, so that DVC deletes none before the stage runs.
KEPT = (
    "nothing was run, and all that earlier runs made is as it was; params.yaml keeps what was typed until you change it"
)
#: Seconds of each stage since `make repro` began; no stage reads it.
TIMINGS = OUT / "timings.json"
#: What torch, oneDNN, ONNX Runtime and the loader of libraries say where memory ends; their errors have no common class.
OUT_OF_MEMORY = re.compile(
    "can(?:'t|not) allocate memory|not enough memory|out of memory|invalid size .* overflow|bad_alloc"
    "|failed to allocate memory|failed to map segment|could not create a (?:primitive|memory object)",
    re.IGNORECASE,
)


def stage(name: str, main: Callable[[Params], object]) -> None:
    """The command of one stage, which has no arguments: its settings are params.yaml's. `--help` says what it does."""

    def command() -> None:
        _run(name, main)

    command.__doc__ = f"{_about(main)}\n\nIts settings are those of params.yaml; it writes below out/."
    run_command(command)


def _about(main: Callable[[Params], object]) -> str:
    """The first paragraph of the module that `main` lies in, as the module itself has it when it is run."""
    return (sys.modules[main.__module__].__doc__ or "").split("\n\n")[0]


def _run(name: str, main: Callable[[Params], object]) -> None:
    """Runs a stage, as `outcome` says."""
    started = time.monotonic()
    with outcome(name):
        params = _settings()
        with exclusive(OUT / f".{name}.lock"):
            set_threads(params.cpu_threads)
            main(params)
        seconds = time.monotonic() - started
        print(f"{name}: done in {seconds:.0f} s", flush=True)
        write_whole(TIMINGS, canonical_json({**_timings(), name: round(seconds, 1)}))


def _settings() -> Params:
    """params.yaml, complete; a refusal says what DVC, which wrote the wrong value there, has left as it was."""
    try:
        return load_params()
    except ParamsError as error:
        if "DVC_STAGE" not in os.environ:
            raise
        raise ParamsError(*error.args, KEPT) from None


@contextmanager
def outcome(name: str, stopped: str = "stopped by hand") -> Generator[None]:
    """Around a whole command: what is refused, and what the machine lacks, is one sentence on stderr and exit 1.

    Ctrl-C is exit 130, and says `stopped`. A traceback is left for what is wrong in the code.
    """
    plain_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{name}: {stopped}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if (said := refusal(error)) is None:
            raise
        print(f"{name}: {said}", file=sys.stderr)
        raise SystemExit(1) from None


def refusal(error: BaseException) -> str | None:
    """What a person is told of an error; None where it is a fault of the code."""
    if isinstance(error, RuntimeError | ImportError) and OUT_OF_MEMORY.search(str(error)):
        first = str(error).splitlines()[0]
        return f"there is not enough memory ({first}); a smaller network, image or batch takes less"
    return sentence(error)


def print_shares() -> None:
    """Prints how the time of the stages that ran was spent; nothing where none ran."""
    timings = _timings()
    total = sum(timings.values())
    parts = ", ".join(f"{name} {seconds:.0f} s ({seconds / total:.0%})" for name, seconds in timings.items())
    if timings:
        print(f"Stages: {parts}; {total:.0f} s in all")


def _timings() -> dict[str, float]:
    """Seconds by stage; a file that is none is begun anew, for no result depends on it."""
    try:
        timings = json.loads(TIMINGS.read_bytes())
        return {name: float(seconds) for name, seconds in timings.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {}


def set_threads(threads: int) -> None:
    """CPU threads of torch (their number changes the order of sums and so the weights), and float32 that is float32."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """One run at a time: a killed `dvc` leaves its stage running, and the next would write the same files."""
    with locked(path) as mine:
        if not mine:
            raise HallmarkError(f"another run holds {path}; wait for it or stop it")
        yield


if __name__ == "__main__":
    run_command(print_shares)
