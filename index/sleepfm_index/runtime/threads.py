"""One setting for every library that has threads of its own: FAISS, OpenBLAS, DuckDB.

The command's ``--threads`` (or ``$SLEEPFM_THREADS``) is set before any of them is loaded, torch
among them, so each starts with it. :func:`set_threads` sets it at once. It is a setting of the
process: the libraries have one pool of threads each, whatever stores are open.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final

from threadpoolctl import threadpool_limits

from sleepfm_index.errors import QueryError

VARIABLE: Final = "SLEEPFM_THREADS"

_asked: int | None = None
# A child of fork() has none of its parent's OpenMP threads and would wait for them for ever.
_forked = False


def setting() -> int | None:
    """Threads that were asked for, by :func:`set_threads` or the environment; None for all cores.

    Raises
    ------
    QueryError
        If the environment asks for something that is no number of threads.
    """
    if _asked is not None:
        return _asked
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise QueryError(f"${VARIABLE} must be a number of threads, at least 1, got {text!r}")
    return int(text)


def set_threads(threads: int) -> None:
    """Set how many threads this process searches with.

    FAISS and OpenBLAS take it at once, DuckDB in stores whose tables are opened from here on. A
    forked child keeps to one.

    Parameters
    ----------
    threads : int
        At least 1.

    Raises
    ------
    QueryError
        If it is not at least 1.
    """
    global _asked
    if threads < 1:
        raise QueryError(f"threads must be at least 1, got {threads}")
    _asked = threads
    threadpool_limits(1 if _forked else threads, user_api="blas")
    faiss().omp_set_num_threads(1 if _forked else threads)


def one_thread(*, unless: bool = False) -> AbstractContextManager[object]:
    """Keep BLAS to one thread inside a ``with`` block.

    Sums in one order give the same bytes on every machine. And a fit or a decomposition is a
    thousand short matrix products: on a busy machine, threads that wait for each other in each of
    them make it a hundred times slower, and on an idle one they save next to nothing.

    Parameters
    ----------
    unless : bool
        Leave the threads as they are, where the products are long enough.
    """
    if unless:
        return nullcontext()
    limited: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limited


@cache
def faiss() -> Any:
    """FAISS, loaded when a search needs it, with as many threads as were asked for."""
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
