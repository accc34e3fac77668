"""Loaded by Dask workers of the tests: nights take a while, and one of them kills its process.

What ``SLEEPFM_TEST_HELD`` names is not answered before there is a file ``go``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from sleepfm_index.building import dask_worker

# Dask may load this file twice.
_rows_of = getattr(dask_worker.rows_of, "slowed", dask_worker.rows_of)


def slowly(plan: Any, job: Any, **more: Any) -> Any:
    if "poison" in job.recording_id:
        with Path("deaths").open("a") as deaths:
            deaths.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    rows = _rows_of(plan, job, **more)
    while job.recording_id == os.environ.get("SLEEPFM_TEST_HELD") and not Path("go").exists():
        time.sleep(0.05)
    time.sleep(float(os.environ.get("SLEEPFM_TEST_SECONDS", "0")))
    return rows


slowly.slowed = _rows_of  # type: ignore[attr-defined]
dask_worker.rows_of = slowly
