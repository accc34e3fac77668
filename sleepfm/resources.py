"""Resources of this machine: cores, free memory, and the name of its processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")


def cores() -> int:
    """Count the cores that this process may use; ``OMP_NUM_THREADS`` can lower the number.

    Returns
    -------
    int
        At least 1.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(_cores(), int(limit)) if limit.isdigit() and int(limit) else _cores()


def free_memory() -> int:
    """Estimate the memory that this process can still allocate without swapping.

    In a container (cgroup v2), the container's limit counts too: the system's own figure ignores
    it.

    Returns
    -------
    int
        Bytes.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used))


def processor() -> str:
    """Read the name of the processor, e.g. ``AMD EPYC``.

    Returns
    -------
    str
    """
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        if lines:
            return lines[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
