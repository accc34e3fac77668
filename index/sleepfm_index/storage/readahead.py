"""Readahead: ask the system for what is about to be read, all at once.

Left to itself it reads each part of a mapped file when it is met, one after another, and a disk
that could do a hundred at a time does one. Asking for what is in memory already costs time, too, so
a reader stops asking while the process does not touch the disk: whether it did is what the system
counts (page faults that had to wait, blocks read), not how long a read took.

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
        Requests to the system, the ranges of mapped files in them, and the bytes of those.
    reads, disk_reads : int
        Reads that were watched, and those of them during which the process touched the disk.
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
        Parts of the file that are asked for one by one and again only once the disk was touched.
    """

    def __init__(self, parts: int = 0) -> None:
        self._enabled = enabled()
        self._quiet = 0
        self._asked = np.zeros(parts, bool)

    @property
    def asking(self) -> bool:
        """Whether to request data: unless the last reads did not access the disk."""
        return self._enabled and self._quiet < QUIET_READS

    def due(self, parts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some parts that were not asked for since the disk was touched.

        Parameters
        ----------
        parts : ndarray of int64, shape [n]
            Numbers of the parts.
        """
        if not self._enabled:
            return parts[:0]
        due = parts[~self._asked[parts]]
        self._asked[due] = True
        return due

    def ask(self, mapped: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Request some bytes of a mapped array; do not wait.

        Parameters
        ----------
        mapped : ndarray
            Contiguous; where it is not mapped, nothing happens.
        starts, ends : ndarray of int64, shape [n]
            Bytes from the beginning of the array: the first of each range and the one after its
            last.
        """
        if self._enabled and len(starts):
            prefetch(mapped, starts, ends)

    def ask_at(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """Request some addresses of mapped files; do not wait.

        Parameters
        ----------
        starts, ends : ndarray of int64, shape [n]
            The first address of each range and the one after its last; a page is asked for once.
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
            What :meth:`begin` gave.
        """
        if before is None:
            return
        COUNTERS.reads += 1
        if disk_reads() == before:
            self._quiet += 1
            return
        COUNTERS.disk_reads += 1
        self._quiet = 0
        self._asked[:] = False


def disk_reads() -> DiskReads:
    """Count what this process has read from disks: faults that waited, and blocks."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_majflt, usage.ru_inblock


def prefetch(mapped: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Request some bytes of an array that lies in a mapped file; see :meth:`Readahead.ask`.

    Parameters
    ----------
    mapped : ndarray
        The mapped array.
    starts, ends : ndarray of int64, shape [n]
        First byte of each range, and the byte after its last.
    """
    base = mapped.ctypes.data
    _prefetch((base + starts) // mmap.PAGESIZE * mmap.PAGESIZE, base + ends)


def prefetch_at(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Request some addresses of mapped files; see :meth:`Readahead.ask_at`.

    Parameters
    ----------
    starts, ends : ndarray of int64, shape [n]
        The first address of each range and the one after its last.
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
    for at in range(0, len(ranges), MOST_RANGES):
        some = np.ascontiguousarray(ranges[at : at + MOST_RANGES])
        COUNTERS.requests += 1
        if not _at_once(some):
            for page, size in some.tolist():
                _libc().madvise(page, size, mmap.MADV_WILLNEED)


def _at_once(ranges: NDArray[np.uintp]) -> bool:
    """Request all ranges in one call if the system allows, in a third of the time."""
    return _allowed(os.getpid()) and _advise(ranges) >= 0


@cache
def _allowed(process: int) -> bool:
    # Older kernels want privileges for it even of a process that asks for itself.
    try:
        return hasattr(_libc(), "process_madvise") and _advise(np.zeros((1, 2), np.uintp)) >= 0
    except (OSError, AttributeError):  # a Python may be built without pidfd_open
        return False


def _advise(ranges: NDArray[np.uintp]) -> int:
    itself = _handle(os.getpid())
    given = _libc().process_madvise(itself, ranges.ctypes.data, len(ranges), mmap.MADV_WILLNEED, 0)
    return int(given)


@cache
def _handle(process: int) -> int:
    return os.pidfd_open(process)


@cache
def _libc() -> Any:
    # mmap's own madvise needs the object that mapped the file, which Arrow keeps to itself.
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
