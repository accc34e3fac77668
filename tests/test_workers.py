"""Processes that die take nothing with them but their own call, and that only twice."""

from __future__ import annotations

import itertools
import os
import time
from contextlib import closing
from pathlib import Path

from worker_calls import leaving, mortal, squared

from sleepfm.process_pool import Died, results


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_come_in_the_order_of_the_jobs() -> None:
    found = list(results(squared, 2, range(9), 2))
    assert [value for value, _ in found] == [2 * i * i for i in range(9)]
    pids = {pid for _, pid in found}
    assert len(pids) == 2 and os.getpid() not in pids
    assert not any(map(_alive, pids))


def test_jobs_are_taken_as_they_are_needed() -> None:
    counted = itertools.count()
    with closing(results(squared, 1, counted, 2)) as endless:
        assert [next(endless)[0] for _ in range(4)] == [0, 1, 4, 9]
        assert next(counted) < 20


def test_no_job_needs_no_process() -> None:
    assert list(results(squared, 1, [], 4)) == []


def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    found = list(results(mortal, tmp_path, range(6), 2))
    assert [x for x in found if not isinstance(x, Died)] == [0, 2, 3, 4, 5]
    assert isinstance(found[1], Died)
    assert "SIGKILL, possibly out of memory" in found[1].why


def test_processes_end_with_the_one_that_asks(tmp_path: Path) -> None:
    with closing(results(leaving, tmp_path, range(4), 2)) as found:
        assert next(found) == 0
    pids = [int(p.stem) for p in tmp_path.glob("*.pid")]
    assert pids
    deadline = time.monotonic() + 10
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, pids))


def test_an_exit_is_told_as_such(tmp_path: Path) -> None:
    (found,) = results(leaving, tmp_path, [3], 1)
    assert found.why == "its process ended with exit status 7"
