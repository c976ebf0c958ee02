"""What every stage does around its work: validate the whole params.yaml, set the threads, hold the lock, speak clearly."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundle.errors import HallmarkError
from pipeline.params import Params, load_params

OUT = Path("out")


def stage(name: str, main: Callable[[Params], None]) -> None:
    """Runs one stage; a HallmarkError is one sentence on stderr and exit 1, Ctrl-C is exit 130."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    started = time.monotonic()
    try:
        params = load_params()
        with _locked(name):
            set_threads(params.threads)
            main(params)
    except HallmarkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"\n{name}: stopped by hand", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"{name}: done in {time.monotonic() - started:.0f} s", flush=True)


def set_threads(threads: int) -> None:
    """CPU threads of torch (their number changes the order of sums and so the weights), and float32 that is float32."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One run of a stage at a time: a killed `dvc` leaves its stage running, and the next would write the same files."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f".{name}.lock"
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HallmarkError(f"another run of this stage holds {path}; wait for it or stop it") from None
        yield
