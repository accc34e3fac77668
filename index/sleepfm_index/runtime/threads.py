"""The number of threads, one setting for all libraries: FAISS, OpenBLAS, DuckDB.

The option ``--threads`` (or ``$SLEEPFM_THREADS``) is read before these libraries and torch are
loaded; :func:`set_threads` takes effect at once. It is a setting of the process, not of one store,
because each library has one thread pool.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final

from threadpoolctl import threadpool_limits

from sleepfm_index.errors import QueryError

VARIABLE: Final = "SLEEPFM_THREADS"

_threads: int | None = None
# A forked child has none of its parent's OpenMP threads and would wait for them forever.
_forked = False


def setting() -> int | None:
    """Threads set by :func:`set_threads` or the environment; None for all cores.

    Raises
    ------
    QueryError
        If the environment variable is not a positive integer.
    """
    if _threads is not None:
        return _threads
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise QueryError(f"${VARIABLE} must be a number of threads, at least 1, got {text!r}")
    return int(text)


def set_threads(threads: int) -> None:
    """Set the number of threads of this process.

    It takes effect at once for FAISS and OpenBLAS, and for DuckDB when the tables of a store are
    opened. A forked child uses one thread.

    Parameters
    ----------
    threads : int
        Number of threads, at least 1.

    Raises
    ------
    QueryError
        If the number is less than 1.
    """
    global _threads
    if threads < 1:
        raise QueryError(f"threads must be at least 1, got {threads}")
    _threads = threads
    threadpool_limits(1 if _forked else threads, user_api="blas")
    faiss().omp_set_num_threads(1 if _forked else threads)


def one_thread(*, unless: bool = False) -> AbstractContextManager[object]:
    """Limit BLAS to one thread inside a ``with`` block.

    A fixed order of summation gives the same bytes whatever the number of threads. A fit or a
    decomposition also consists of thousands of short matrix products: on a busy machine, threads
    that wait for each other make it a hundred times slower, and on an idle one they save little.

    Parameters
    ----------
    unless : bool
        Whether to keep the number of threads, for long matrix products.
    """
    if unless:
        return nullcontext()
    limited: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limited


@cache
def faiss() -> Any:
    """FAISS, loaded on first use, with the number of threads that was set."""
    import faiss as loaded

    # Below this many queries FAISS >= 1.14.2 scans without BLAS, up to 20x slower at d = 512.
    loaded.cvar.distance_compute_blas_threshold = 1
    threads = 1 if _forked else setting()
    if threads is not None:
        loaded.omp_set_num_threads(threads)
    return loaded


def _keep_to_one_thread() -> None:
    global _forked
    _forked = True
    if faiss.cache_info().currsize:
        faiss().omp_set_num_threads(1)


os.register_at_fork(after_in_child=_keep_to_one_thread)
