"""Ask the system for parts of a mapped file that are about to be read, all at once.

Left to itself it reads each when it is met, one after another, and a disk that could do a hundred
at a time does one.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable
from functools import cache
from typing import Any

from numpy.typing import NDArray


def prefetch(mapped: NDArray[Any], parts: Iterable[tuple[int, int]]) -> None:
    """Ask for some bytes of an array that lies in a mapped file; nothing is waited for.

    Parameters
    ----------
    mapped : ndarray
        Contiguous; where it is not mapped, nothing happens.
    parts : iterable of (start, end)
        Bytes from the beginning of the array.
    """
    madvise = _madvise()
    if madvise is None:
        return
    base = mapped.ctypes.data
    for start, end in parts:
        page = (base + start) // mmap.PAGESIZE * mmap.PAGESIZE
        madvise(page, base + end - page, mmap.MADV_WILLNEED)


@cache
def _madvise() -> Any | None:
    # mmap's own madvise needs the object that mapped the file, which Arrow keeps to itself.
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return call
