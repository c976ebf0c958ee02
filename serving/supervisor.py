"""The process that starts BentoML's worker: what it checks first, and how either of the two ends with the other.

By itself, BentoML starts a worker that dies again and again, behind a port that answers nobody; and a worker whose
supervisor was killed goes on at a port that no new supervisor can take.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

from bundle.errors import HallmarkError
from serving.served import open_checked
from serving.settings import Settings, read_settings

#: The supervisor's process id, and the file in which its worker leaves a refusal; only `python -m serving` names a file.
SUPERVISOR, REFUSAL = "HALLMARK_SUPERVISOR", "HALLMARK_REFUSAL"


def verify(settings: Settings) -> None:
    """Opens the bundle as the worker will and prints what was found; what it holds is given back.

    Raises HallmarkError where the worker would not serve it.
    """
    opened = open_checked(settings)
    check, signer, gate = opened.check, opened.trust.signer, opened.trust.gate
    moved = f"{check.moved} of {check.rows} closest verdicts moved, {check.allowed} may"
    told = moved if check.rows else "not possible: private evidence"
    signed = f"; signed by {signer.name}" if signer else ""
    met = f"; meets {gate.policy.source}" if gate else ""
    threads = opened.classifier.threads
    print(
        f"model {opened.bundle.version} from {settings.bundle}: verified{signed}{met}; "
        f"self-check on {check.provider}, {threads} thread{'s' * (threads > 1)}: {told}",
        file=sys.stderr,
    )
    if opened.classifier.fell_back:
        print("device auto: a CUDA device is there, but ONNX Runtime fell back to the CPU", file=sys.stderr)


def check_start() -> None:
    """What `python -m serving` does before BentoML starts, done for `bentoml serve`, in the process that starts workers.

    Raises SystemExit with 1 after one sentence where the bundle cannot be served.
    """
    if os.environ.get(SUPERVISOR) == str(os.getpid()):
        return
    try:
        settings = read_settings()
        verify(settings)
    except HallmarkError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    # The worker starts in the bento's folder: paths are made absolute here.
    os.environ.update(settings.environment())
    os.environ[SUPERVISOR] = str(os.getpid())


def give_up(error: Exception) -> None:
    """Called by a worker that cannot serve: says why, and ends the supervisor."""
    if os.environ.get(SUPERVISOR) != str(os.getppid()):
        return
    if REFUSAL in os.environ:
        Path(os.environ[REFUSAL]).write_text(str(error), encoding="utf-8")
    else:
        print(error, file=sys.stderr, flush=True)
    os.kill(os.getppid(), signal.SIGTERM)


def end_with_supervisor(seconds: int) -> None:
    """Called by a worker: when its supervisor is gone it ends as at SIGTERM, and `seconds` later in any case."""
    supervisor = os.environ.get(SUPERVISOR, str(os.getpid()))
    if supervisor != str(os.getpid()):
        Thread(target=_end_after, args=(supervisor, seconds), name="supervisor", daemon=True).start()


def _end_after(supervisor: str, seconds: int) -> None:
    _wait_for(supervisor)
    print("supervisor: is gone, so the worker ends", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


def _wait_for(supervisor: str) -> None:
    """Returns when this process has another parent: Linux tells at once, elsewhere one has to look."""
    with suppress(AttributeError, OSError):
        parent = os.pidfd_open(os.getppid())
        if str(os.getppid()) == supervisor:
            select.select([parent], [], [])
    while str(os.getppid()) == supervisor:
        time.sleep(1)
