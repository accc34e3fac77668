"""A time limit for what can be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_AGAIN_S: Final = 0.05
"""Time between two interrupts of what goes on."""


@contextmanager
def interrupted_after(limit_s: float, interrupt: Callable[[], None]) -> Iterator[None]:
    """Interrupt the body of a ``with`` statement after a time, again and again until it ends.

    DuckDB loses an interrupt that comes between two steps of a statement.

    Parameters
    ----------
    limit_s : float
        Seconds.
    interrupt : callable
        Function that interrupts, called from another thread; never after the body has ended.
    """
    done = threading.Event()

    def watch() -> None:
        wait = limit_s
        while not done.wait(wait):
            interrupt()
            wait = _AGAIN_S

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
