"""The number of threads, set for all libraries before they are loaded."""

from __future__ import annotations

import os
from typing import Final

_VARIABLES: Final = (
    *("SLEEPFM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)


def announce(threads: int) -> None:
    """Set the environment variables that the libraries read when they are loaded.

    Parameters
    ----------
    threads : int
        Number of threads, at least 1.
    """
    for name in _VARIABLES:
        os.environ[name] = str(threads)
