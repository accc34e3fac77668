"""Anonymous memory of a process, and files in the page cache."""

from __future__ import annotations

import os
from pathlib import Path


def anonymous_mb(pid: int) -> float:
    """Return the anonymous memory of a process, in MB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(x.split()[1]) / 1000 for x in lines if x.startswith("RssAnon"))


def drop(path: Path) -> None:
    """Drop a file, or all files of a folder, from the page cache, unless a process maps them."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def read(path: Path) -> None:
    """Read a file to the end, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
