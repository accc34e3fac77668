"""One number of threads for every library that has some."""

from __future__ import annotations

import os
from typing import Final

_VARIABLES: Final = (
    *("SLEEPFM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


def announce(threads: int) -> None:
    """Say it in the environment, where libraries that are yet to be loaded look for it."""
    for name in _VARIABLES:
        os.environ[name] = str(threads)
