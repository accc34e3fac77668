"""What the processes of tests do; found by name in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def squared(context: int, job: float) -> tuple[float, int]:
    time.sleep(0.2 if job == 0 else 0.0)
    return context * job * job, os.getpid()


def mortal(folder: Path, job: int) -> int:
    """Die at job 1 always, at job 2 once."""
    mark = folder / f"tried-{job}"
    if job == 1 or (job == 2 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def leaving(folder: Path, job: int) -> int:
    (folder / f"{os.getpid()}.pid").touch()
    if job == 3:
        os._exit(7)
    time.sleep(60 if job == 1 else 0)
    return job
