"""Readahead: ranges are requested ahead, and no request is made while the disk is not read."""

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
from sleepfm_index.storage.readahead import QUIET_READS, Readahead, prefetch

PAGES = 4096


@pytest.fixture
def mapped(tmp_path: Path) -> NDArray[np.uint8]:
    """A mapped file that is not in the page cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    handle = os.open(path, os.O_RDONLY)
    os.fdatasync(handle)
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


def touch(readahead: Readahead, array: NDArray[np.uint8], at: int = 0) -> bool:
    """Read one byte; give whether the disk was touched."""
    before, counted = readahead.begin(), module.COUNTERS.disk_reads
    int(array[at])
    readahead.done(before)
    return module.COUNTERS.disk_reads > counted


def test_it_asks_until_the_disk_is_left_alone_and_again_when_it_is_read(
    mapped: NDArray[np.uint8],
) -> None:
    readahead = Readahead(parts=4)
    assert readahead.active
    if not touch(readahead, mapped):
        pytest.skip("this system does not count what it reads for a process")
    assert readahead.due(np.array([1, 2])).tolist() == [1, 2]
    quiet = 0
    while readahead.active:  # what other threads of this process read counts as well
        quiet = 0 if touch(readahead, mapped) else quiet + 1
    assert quiet == QUIET_READS
    assert readahead.due(np.array([1, 2, 3])).tolist() == [3]
    last = PAGES - 1
    if there(mapped)[last]:
        pytest.skip("this system reads whole files ahead")
    assert touch(readahead, mapped, last * mmap.PAGESIZE) and readahead.active
    assert readahead.due(np.array([1, 2, 3])).tolist() == [1, 2, 3]


def test_it_can_be_switched_off(mapped: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.VARIABLE, "off")
    readahead = Readahead(parts=4)
    assert not readahead.active and len(readahead.due(np.arange(4))) == 0
    requests = module.COUNTERS.requests
    readahead.request(mapped, np.array([0]), np.array([1 << 20]))
    assert module.COUNTERS.requests == requests and not there(mapped).any()
    readahead.done(readahead.begin())
    assert not readahead.active
