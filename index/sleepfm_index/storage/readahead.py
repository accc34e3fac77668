"""Readahead: request all pages that are about to be read from the system at once.

By default the system reads each page of a mapped file on the first access, one after another, so a
disk that could serve a hundred requests in parallel serves one. Requests for pages that are already
in memory cost time, too, so a reader makes none while the process does not access the disk. The
system's counters (major page faults, blocks read) decide that, not the duration of a read.

``SLEEPFM_READAHEAD=off`` in the environment switches it off.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows, which takes no such advice either
    resource = None  # type: ignore[assignment]

VARIABLE: Final = "SLEEPFM_READAHEAD"
QUIET_READS: Final = 16
"""Number of consecutive reads without disk access after which nothing is requested."""
MOST_RANGES: Final = 1024
"""Maximum number of ranges per request, IOV_MAX of Linux."""

DiskReads = tuple[int, int]
"""Page faults that waited for the disk, and blocks read, of this process."""


@dataclass
class Counters:
    """Counters over all readers of this process.

    Parameters
    ----------
    requests, ranges, bytes : int
        Number of requests to the system, of ranges of mapped files in them, and of bytes.
    reads, disk_reads : int
        Number of observed reads, and of those during which the process accessed the disk.
    """

    requests: int = 0
    ranges: int = 0
    bytes: int = 0
    reads: int = 0
    disk_reads: int = 0


COUNTERS: Final = Counters()


def enabled() -> bool:
    """Whether readahead is enabled."""
    able = hasattr(mmap, "MADV_WILLNEED") and resource is not None
    return able and os.environ.get(VARIABLE, "on") != "off"


class Readahead:
    """Readahead of one reader.

    Parameters
    ----------
    parts : int
        Number of parts of the file that :meth:`due` tracks; a part is requested again only after
        the process has accessed the disk.
    """

    def __init__(self, parts: int = 0) -> None:
        self._enabled = enabled()
        self._quiet = 0
        self._requested = np.zeros(parts, bool)

    @property
    def active(self) -> bool:
        """Whether to request data: unless the last reads did not access the disk."""
        return self._enabled and self._quiet < QUIET_READS

    def due(self, parts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the parts that have not been requested since the last disk access.

        Parameters
        ----------
        parts : ndarray of int64, shape [n]
            Numbers of the parts, from 0.
        """
        if not self._enabled:
            return parts[:0]
        due = parts[~self._requested[parts]]
        self._requested[due] = True
        return due

    def request(
        self, mapped: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        """Request ranges of a mapped array without waiting.

        Parameters
        ----------
        mapped : ndarray
            Contiguous array; if it is not mapped, nothing happens.
        starts, ends : ndarray of int64, shape [n]
            Bounds of each range in bytes from the beginning of the array, end excluded.
        """
        if self._enabled and len(starts):
            prefetch(mapped, starts, ends)

    def request_addresses(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Request address ranges of mapped files without waiting.

        Parameters
        ----------
        starts, ends : ndarray of int64, shape [n]
            Bounds of each address range, end excluded; each page is requested once.
        """
        if self._enabled and len(starts):
            prefetch_at(starts, ends)

    def begin(self) -> DiskReads | None:
        """Start observing a read; pass the returned value to :meth:`done`."""
        return disk_reads() if self._enabled else None

    def done(self, before: DiskReads | None) -> None:
        """End a read.

        Parameters
        ----------
        before : tuple of int, optional
            Value returned by :meth:`begin`.
        """
        if before is None:
            return
        COUNTERS.reads += 1
        if disk_reads() == before:
            self._quiet += 1
            return
        COUNTERS.disk_reads += 1
        self._quiet = 0
        self._requested[:] = False


def disk_reads() -> DiskReads:
    """Disk reads of this process so far: major page faults, and blocks read."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_majflt, usage.ru_inblock


def prefetch(mapped: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Request ranges of a mapped array; see :meth:`Readahead.request`.

    Parameters
    ----------
    mapped : ndarray
        The mapped array.
    starts, ends : ndarray of int64, shape [n]
        Bounds of each range in bytes from the beginning of the array, end excluded.
    """
    base = mapped.ctypes.data
    _prefetch((base + starts) // mmap.PAGESIZE * mmap.PAGESIZE, base + ends)


def prefetch_at(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Request address ranges of mapped files; see :meth:`Readahead.request_addresses`.

    Parameters
    ----------
    starts, ends : ndarray of int64, shape [n]
        Bounds of each address range, end excluded.
    """
    pages = starts // mmap.PAGESIZE * mmap.PAGESIZE
    order = np.lexsort((-ends, pages))
    pages, ends = pages[order], ends[order]
    first = np.r_[True, pages[1:] != pages[:-1]]  # with the farthest end
    _prefetch(pages[first], ends[first])


def _prefetch(pages: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    if not hasattr(mmap, "MADV_WILLNEED"):
        return
    ranges = np.stack([pages, ends - pages], axis=1).astype(np.uintp)
    COUNTERS.ranges += len(ranges)
    COUNTERS.bytes += int(ranges[:, 1].sum())
    for start in range(0, len(ranges), MOST_RANGES):
        batch = np.ascontiguousarray(ranges[start : start + MOST_RANGES])
        COUNTERS.requests += 1
        if not _request_together(batch):
            for page, size in batch.tolist():
                _libc().madvise(page, size, mmap.MADV_WILLNEED)


def _request_together(ranges: NDArray[np.uintp]) -> bool:
    """Request all ranges in one call if the system allows, in a third of the time."""
    return _allowed(os.getpid()) and _advise(ranges) >= 0


@cache
def _allowed(process: int) -> bool:
    # Older kernels require privileges for it, even for a process's own memory.
    try:
        return hasattr(_libc(), "process_madvise") and _advise(np.zeros((1, 2), np.uintp)) >= 0
    except (OSError, AttributeError):  # a Python may be built without pidfd_open
        return False


def _advise(ranges: NDArray[np.uintp]) -> int:
    pidfd = _handle(os.getpid())
    advised = _libc().process_madvise(pidfd, ranges.ctypes.data, len(ranges), mmap.MADV_WILLNEED, 0)
    return int(advised)


@cache
def _handle(process: int) -> int:
    return os.pidfd_open(process)


@cache
def _libc() -> Any:
    # mmap.madvise needs the object that mapped the file, which Arrow does not expose.
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if hasattr(libc, "process_madvise"):
        of, advice = ctypes.c_int, ctypes.c_int
        libc.process_madvise.argtypes = (
            of,
            ctypes.c_void_p,
            ctypes.c_size_t,
            advice,
            ctypes.c_uint,
        )
        libc.process_madvise.restype = ctypes.c_ssize_t
    return libc
