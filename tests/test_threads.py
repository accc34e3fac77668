"""Threads of a search: a short one starts none, and none wakes those of numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import drawn_store

import sleepfm_index

SCRIPT = """
import sys
import numpy as np
import sleepfm_index

def threads():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("Threads")).split()[1])

with sleepfm_index.open(sys.argv[1]) as store:
    clips = np.random.default_rng(0).normal(size=(200, 512)).astype(np.float32)
    before = threads()
    store.search("bas", clips[:1], 5)
    short = threads()
    store.search("bas", clips, 5)
    print(before, short, threads())
"""


def _run(script: str, store: Path) -> str:
    """Run a script on a store with two threads for every library."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLEEPFM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", script, str(store)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(names, "2")},
    )
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_search_starts_no_thread_and_many_queries_do(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 400}, index=False)
    sleepfm_index.reindex(path, index="IVF8,TC96x4fs", recall=0.2, targets=("bas",))
    before, short, many = map(int, _run(SCRIPT, path).split())
    assert short == before
    assert many > short


IDLE = """
import os
import sys
import time

import numpy as np

import sleepfm_index

def slices():
    # run time in ns, waiting time, number of time slices, of each thread
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/schedstat") as file:
            found[thread] = int(file.read().split()[2])
    return found

clips = np.random.default_rng(0).normal(size=(2000, 512)).astype(np.float32)
np.ones((500, 512), np.float32) @ clips[:512]  # BLAS starts its threads
multiplying = set(slices()) - {str(os.getpid())}
with sleepfm_index.open(sys.argv[1]) as store:
    store.search("bas", clips[:20], 5)
    time.sleep(0.5)  # until they have stopped spinning
    before = slices()
    store.search("bas", clips, 5)
    after = slices()
print(len(multiplying), sum(after[thread] - before[thread] for thread in multiplying))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_batch_does_not_wake_the_threads_of_numpy(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 400}, index=False)
    sleepfm_index.reindex(path, index="IVF8,TC96x4fs", recall=0.2, targets=("bas",))
    threads, slices = map(int, _run(IDLE, path).split())
    assert threads > 0
    assert slices == 0
