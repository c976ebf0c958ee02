"""What every stage does around its work: validate the whole params.yaml, set the threads, hold the lock, speak clearly."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.digests import canonical_json, write_whole
from bundle.errors import HallmarkError
from bundle.streams import plain_streams
from pipeline.locks import locked
from pipeline.params import Params, load_params

OUT = Path("out")
#: Seconds of each stage since `make repro` began; no stage reads it.
TIMINGS = OUT / "timings.json"


def stage(name: str, main: Callable[[Params], object]) -> None:
    """Runs one stage of params.yaml, as `outcome` says."""
    started = time.monotonic()
    with outcome(name):
        params = load_params()
        with alone(OUT / f".{name}.lock"):
            set_threads(params.threads)
            main(params)
    seconds = time.monotonic() - started
    print(f"{name}: done in {seconds:.0f} s", flush=True)
    write_whole(TIMINGS, canonical_json({**_timings(), name: round(seconds, 1)}))


@contextmanager
def outcome(name: str) -> Iterator[None]:
    """Around a whole command: what is refused is one sentence on stderr and exit 1, Ctrl-C is exit 130."""
    plain_streams()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        yield
    except HallmarkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except PermissionError as error:
        print(f"{name}: {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"\n{name}: stopped by hand", file=sys.stderr)
        raise SystemExit(130) from None


def print_shares() -> None:
    """Prints how the time of the stages that ran was spent; nothing where none ran."""
    timings = _timings()
    total = sum(timings.values())
    shares = ", ".join(f"{name} {seconds:.0f} s ({seconds / total:.0%})" for name, seconds in timings.items())
    if timings:
        print(f"Stages: {shares}; {total:.0f} s in all")


def _timings() -> dict[str, float]:
    return json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.exists() else {}


def set_threads(threads: int) -> None:
    """CPU threads of torch (their number changes the order of sums and so the weights), and float32 that is float32."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One run at a time: a killed `dvc` leaves its stage running, and the next would write the same files."""
    with locked(path) as mine:
        if not mine:
            raise HallmarkError(f"another run holds {path}; wait for it or stop it")
        yield


if __name__ == "__main__":
    plain_streams()
    print_shares()
