"""One open store, shared by threads and by forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from stores import TARGETS, drawn_store

import sleepfm_index


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "s"
    return drawn_store(path, {"a": 60, "b": 50, "c": 40}, lacking=0.0)


def ask(store: sleepfm_index.Store) -> list[object]:
    """One question of every kind."""
    query = np.ones((1, 512), np.float32)
    found = [store.search(target, query, 7)[0][0].tolist() for target in TARGETS]
    count = store.sql("SELECT stage, count(*) AS n FROM clips GROUP BY 1 ORDER BY 1").to_pylist()
    nearest = [hit["clip_id"] for hit in store.query("ecg", clip=3, k=5).to_pylist()]
    return [*found, count, nearest, store.metadata.clip_ids("stage = 'N2'").tolist()]


def test_threads_get_the_answers_of_one(path: Path) -> None:
    with sleepfm_index.open(path) as alone:
        expected = ask(alone)
    with sleepfm_index.open(path) as store, ThreadPoolExecutor(8) as pool:
        start = threading.Barrier(8)

        def together(_: int) -> list[object]:
            start.wait()  # all of them open the connection and the indexes at once
            return ask(store)

        assert list(pool.map(together, range(8))) == [expected] * 8
        assert [*pool.map(lambda _: ask(store), range(40))] == [expected] * 40


def in_a_child(work: Callable[[], object]) -> int:
    """Exit status of a forked child; it is killed when it hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 3)
        except BaseException:
            os._exit(4)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -9


def test_a_forked_child_uses_the_store_that_its_parent_opened(path: Path) -> None:
    with sleepfm_index.open(path, threads=2) as store:
        expected = ask(store)
        assert in_a_child(lambda: ask(store) == expected) == 0
        assert in_a_child(lambda: ask(store) == expected and store.close() is None) == 0
        assert ask(store) == expected


def test_a_child_of_a_store_in_which_nothing_was_asked(path: Path) -> None:
    with sleepfm_index.open(path) as alone:
        expected = ask(alone)
    with sleepfm_index.open(path) as store:
        assert in_a_child(lambda: ask(store) == expected) == 0
        assert ask(store) == expected


def test_threads_are_a_setting_of_the_process(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _THREADS, str(path)],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "SLEEPFM_THREADS"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "2", "1", "1"]


_THREADS = """
import sys
import faiss
import sleepfm_index
sleepfm_index.set_threads(2)
print(faiss.omp_get_max_threads())
with sleepfm_index.open(sys.argv[1]) as store:
    ask = "SELECT current_setting('threads') AS n"
    print(store.metadata.select(ask)["n"][0].as_py())
    with sleepfm_index.open(sys.argv[1], threads=1) as other:
        print(faiss.omp_get_max_threads(), other.metadata.select(ask)["n"][0].as_py())
for wrong in (0, -1):
    try:
        sleepfm_index.set_threads(wrong)
    except sleepfm_index.QueryError:
        continue
    raise SystemExit("it was accepted")
"""
