"""Generators that hold an open statement, closed before Python ends.

DuckDB's bindings list everything that they leak if one is left then.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Generator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

G = TypeVar("G", bound=Generator[Any, None, None])
_open: WeakKeyDictionary[Generator[Any, None, None], int] = WeakKeyDictionary()


def closed_at_exit(generator: G) -> G:
    """Close a generator as Python ends, if it is not closed by then; return it.

    Parameters
    ----------
    generator : generator
        The generator.
    """
    _open[generator] = os.getpid()
    return generator


@atexit.register
def _close_all() -> None:
    for generator, process in list(_open.items()):
        if process == os.getpid():  # a forked child must not touch its parent's connection
            with contextlib.suppress(Exception):
                generator.close()
