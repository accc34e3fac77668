"""The number of threads of FAISS: a short search starts none."""

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_search_starts_no_thread_and_many_queries_do(tmp_path: Path) -> None:
    path = drawn_store(tmp_path / "s", {"a": 400}, index=False)
    sleepfm_index.reindex(path, index="IVF8,TC96x4fs", recall=0.2, targets=("bas",))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLEEPFM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(names, "2")},
    )
    before, short, many = map(int, done.stdout.split())
    assert short == before
    assert many > short
