"""Ask the system for parts of a mapped file that are about to be read, all at once.

Left to itself it reads each when it is met, one after another, and a disk that could do a hundred
at a time does one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MOST: Final = 1024
"""Parts of one request, IOV_MAX of Linux."""


def prefetch(mapped: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Ask for some bytes of an array that lies in a mapped file; nothing is waited for.

    Parameters
    ----------
    mapped : ndarray
        Contiguous; where it is not mapped, nothing happens.
    starts, ends : ndarray of int64, shape [n]
        Bytes from the beginning of the array: the first of each part and the one after its last.
    """
    if not hasattr(mmap, "MADV_WILLNEED"):
        return
    base = mapped.ctypes.data
    pages = (base + starts) // mmap.PAGESIZE * mmap.PAGESIZE
    parts = np.stack([pages, base + ends - pages], axis=1).astype(np.uintp)
    for at in range(0, len(parts), _MOST):
        some = np.ascontiguousarray(parts[at : at + _MOST])
        if not _together(some):
            for page, size in some.tolist():
                _libc().madvise(page, size, mmap.MADV_WILLNEED)


def _together(parts: NDArray[np.uintp]) -> bool:
    """Make one request of all, in a third of the time, where the system lets a process do so."""
    return _allowed(os.getpid()) and _asked(parts) >= 0


@cache
def _allowed(process: int) -> bool:
    # Older kernels want privileges for it even of a process that asks for itself.
    try:
        return hasattr(_libc(), "process_madvise") and _asked(np.zeros((1, 2), np.uintp)) >= 0
    except (OSError, AttributeError):  # a Python may be built without pidfd_open
        return False


def _asked(parts: NDArray[np.uintp]) -> int:
    itself = _handle(os.getpid())
    given = _libc().process_madvise(itself, parts.ctypes.data, len(parts), mmap.MADV_WILLNEED, 0)
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
