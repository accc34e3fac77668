"""Asking for parts of a mapped file: they come, all at once or one by one, and nothing else."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sleepfm_index.storage import readahead as module
from sleepfm_index.storage.readahead import prefetch

PAGES = 4096


@pytest.fixture
def mapped(tmp_path: Path) -> NDArray[np.uint8]:
    """A mapped file that is not in the page cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("the system drops no files from its cache")
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    array = np.memmap(path, np.uint8, "r")
    if there(array).any():
        pytest.skip("this file system keeps its files in memory")
    return array


def there(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pages are in the page cache."""
    found = np.zeros(PAGES, np.uint8)
    call = ctypes.CDLL(None).mincore
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    assert call(array.ctypes.data, len(array), found.ctypes.data) == 0
    return (found & 1).astype(bool)


@pytest.mark.parametrize("together", [True, False])
def test_what_is_asked_for_comes(
    mapped: NDArray[np.uint8], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if together and not module._allowed(os.getpid()):
        pytest.skip("this system lets no process ask for many parts at once")
    monkeypatch.setattr(module, "_allowed", lambda process: together)
    first = np.arange(10, PAGES, 100)  # further apart than the system reads ahead
    starts = first * mmap.PAGESIZE + 17
    prefetch(mapped, starts, starts + mmap.PAGESIZE)  # each touches two pages
    wanted = np.r_[first, first + 1]
    end = time.monotonic() + 10
    while not there(mapped)[wanted].all():
        assert time.monotonic() < end, "some pages never came"
        time.sleep(0.01)
    assert not there(mapped).all()


def test_more_parts_than_one_request_takes(mapped: NDArray[np.uint8]) -> None:
    starts = np.arange(0, PAGES, 2) * mmap.PAGESIZE
    prefetch(mapped, starts, starts + 1)
    end = time.monotonic() + 10
    while not there(mapped)[::2].all():
        assert time.monotonic() < end, "some pages never came"
        time.sleep(0.01)


def test_a_python_without_process_handles_asks_one_by_one(
    mapped: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    for known in (module._allowed, module._handle):
        known.cache_clear()
    start = np.array([100 * mmap.PAGESIZE])
    prefetch(mapped, start, start + 1)
    end = time.monotonic() + 10
    while not there(mapped)[100]:
        assert time.monotonic() < end, "the page never came"
        time.sleep(0.01)
    for known in (module._allowed, module._handle):
        known.cache_clear()


def test_an_array_in_memory_is_left_alone() -> None:
    array = np.arange(1 << 20, dtype=np.uint8)
    before = array.copy()
    prefetch(array, np.array([0, 5000]), np.array([10, 6000]))
    assert np.array_equal(array, before)
