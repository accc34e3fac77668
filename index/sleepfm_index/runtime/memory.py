"""A bound on the memory of a process, for statements of SQL that DuckDB does not bound itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BOUND: Final = 8 << 30
"""Bytes beyond what a process has: twice what DuckDB counts, which makes lists and repeated texts
outside of it."""


@contextmanager
def bounded_memory(extra: int = BOUND) -> Iterator[None]:
    """Let this process take at most so much memory more; what would take more ends in an error.

    Files that are mapped do not count. Nothing is bounded where the operating system has no such
    limit, and a lower one that is there stays.

    Parameters
    ----------
    extra : int
        Bytes.
    """
    try:
        import resource

        before = resource.getrlimit(resource.RLIMIT_DATA)
        known = [n for n in before if n != resource.RLIM_INFINITY]
        bound = min([_data_bytes() + extra, *known]), before[1]
        resource.setrlimit(resource.RLIMIT_DATA, bound)
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _data_bytes() -> int:
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    (line,) = (line for line in lines if line.startswith("VmData:"))
    return int(line.split()[1]) << 10
