"""Small linear algebra on one thread."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def one_thread(*, unless: bool = False) -> AbstractContextManager[object]:
    """Keep what runs inside to one thread.

    A fit or a decomposition is a thousand short matrix products. On a busy machine threads that
    wait for each other in each of them make it a hundred times slower, and on an idle one they save
    next to nothing.

    Parameters
    ----------
    unless : bool
        Leave the threads as they are, where the products are long enough.
    """
    if unless:
        return nullcontext()
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # it comes with scikit-learn, which a map does not need
        return nullcontext()
    limited: AbstractContextManager[object] = threadpool_limits(1)
    return limited
