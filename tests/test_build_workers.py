"""A build by several processes: the same store, whatever happens to them, to a file or a disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import commands
import numpy as np
import pytest
from nights import COARSE, write_night

import sleepfm_index
from sleepfm.encoders.load import untrained
from sleepfm_index.building.pipeline import suitable_workers
from sleepfm_index.storage import files

NIGHTS = 4
OPTIONS = {"threads": 1, "backend": "torch"}


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What all builds here encode with: an eighth of the samples, and of the time."""
    path = untrained(1, COARSE).save(tmp_path_factory.mktemp("weights") / "coarse.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIONS, "weights", str(path))
        yield path


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    for i in range(NIGHTS):
        # The first is done after its neighbours; the last takes time enough to be interrupted.
        write_night(folder / f"night-{i}.edf", seconds=(300, 60, 60, 1200)[i], seed=i)
    return folder


@pytest.fixture(scope="module")
def alone(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alone") / "store"
    sleepfm_index.build(path, [cohort], workers=1, **OPTIONS)
    return path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let children take SIGINT, though these tests may run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _children() -> list[int]:
    listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not listed.exists():
        pytest.skip("no list of child processes on this system")
    pids = [int(pid) for pid in listed.read_text().split()]
    return [p for p in pids if b"import serve" in Path(f"/proc/{p}/cmdline").read_bytes()]


def _same(path: Path, other: Path) -> None:
    with sleepfm_index.open(path) as a, sleepfm_index.open(other) as b:
        assert a.manifest.sources == b.manifest.sources
        for table in ("clips", "events", "recordings"):
            query = f"FROM {table} ORDER BY ALL"
            assert a.sql(query).to_pylist() == b.sql(query).to_pylist()
        ids = np.arange(len(a))
        for modality in ("bas", "ecg", "resp"):
            np.testing.assert_array_equal(
                a.vectors.of(ids, modality)[0], b.vectors.of(ids, modality)[0]
            )


def test_a_store_does_not_depend_on_the_workers(cohort: Path, alone: Path, tmp_path: Path) -> None:
    said: list[str] = []
    report = sleepfm_index.build(tmp_path / "s", [cohort], workers=3, notice=said.append, **OPTIONS)
    assert [o.status for o in report.outcomes] == ["added"] * NIGHTS
    assert len(said) == 1 and said[0].endswith("3 workers")
    _same(tmp_path / "s", alone)
    again = sleepfm_index.build(tmp_path / "s", [cohort], workers=2, **OPTIONS)
    assert [o.status for o in again.outcomes] == ["already there"] * NIGHTS


def test_one_name_or_one_content_twice_is_found_by_any_number(cohort: Path, tmp_path: Path) -> None:
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
    night = (cohort / "night-1.edf").read_bytes()
    (tmp_path / "x" / "night-1.edf").write_bytes(night)
    (tmp_path / "y" / "night-1.edf").write_bytes(night)
    write_night(tmp_path / "z" / "night-1.edf", seed=9, seconds=60)
    folders = [tmp_path / name for name in ("x", "y", "z")]
    found = [
        [
            (o.status, o.reason[:9])
            for o in sleepfm_index.build(tmp_path / str(n), folders, workers=n, **OPTIONS).outcomes
        ]
        for n in (1, 3)
    ]
    assert found[0] == found[1] == [("added", ""), ("already there", ""), ("failed", "another r")]


def test_a_killed_worker_costs_nothing(cohort: Path, alone: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def progress(done: int, total: int) -> None:
        if not killed:
            killed.extend(_children())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    report = sleepfm_index.build(tmp_path / "s", [cohort], workers=2, progress=progress, **OPTIONS)
    assert len(killed) == 2
    assert [o.status for o in report.outcomes] == ["added"] * NIGHTS
    _same(tmp_path / "s", alone)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_vanishes_is_a_failure_of_its_own(
    cohort: Path, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "nights"
    folder.mkdir()
    # More than the workers take ahead.
    for i in range(NIGHTS):
        (folder / f"night-{i}.edf").write_bytes((cohort / f"night-{max(i, 1)}.edf").read_bytes())
    last = folder / f"night-{NIGHTS - 1}.edf"

    def progress(done: int, total: int) -> None:
        last.unlink(missing_ok=True)

    report = sleepfm_index.build(
        tmp_path / "s", sorted(folder.iterdir()), workers=workers, progress=progress, **OPTIONS
    )
    assert len(report.outcomes) == NIGHTS
    (gone,) = [o for o in report.outcomes if o.file == last]
    if gone.status != "added":  # a worker may have read it before
        assert gone.status == "failed"
        assert "cannot be opened: no such file" in gone.reason or (
            "can no longer be read" in gone.reason  # it vanished while it was being read
        )
    assert workers == 2 or gone.status == "failed"


def test_a_full_disk_stops_the_build_which_goes_on_later(
    cohort: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    done = []
    with monkeypatch.context() as patch:
        put = files._Disk._put

        def full(self: files._Disk, piece: memoryview) -> None:
            if len(done) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            put(self, piece)

        patch.setattr(files._Disk, "_put", full)
        with pytest.raises(OSError, match="No space left"):
            sleepfm_index.build(path, [cohort], workers=2, outcome=done.append, **OPTIONS)
    assert not _children()
    assert sleepfm_index.verify(path).ok
    with sleepfm_index.open(path) as store:
        assert len(store.manifest.segments) == 2
    report = sleepfm_index.build(path, [cohort], workers=2, **OPTIONS)
    assert [o.status for o in report.outcomes] == ["already there"] * 2 + ["added"] * 2
    _same(path, alone)


_WAITING = """
import sys, time
from contextlib import closing
from pathlib import Path
from sleepfm_cli.main import main
from sleepfm_index.building import pipeline

worked = pipeline._local_rows
mark = Path(sys.argv.pop(1))

def waiting(*asked):
    with closing(worked(*asked)) as found:
        for number, rows in enumerate(found):
            if number == 1:  # encoded, not committed
                mark.touch()
                time.sleep(600)
            yield rows

pipeline._local_rows = waiting
main()
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_drops_the_recording_in_hand(
    cohort: Path, alone: Path, tmp_path: Path, workers: str, interruptible: None, weights: Path
) -> None:
    path, log, mark = tmp_path / "s", tmp_path / "log.json", tmp_path / "in-hand"
    command = [sys.executable, "-c", _WAITING, str(mark), "build", str(cohort)]
    command += ["--store", str(path), "--log-json", str(log)]
    command += ["--weights", str(weights), "--workers", workers, "--backend", "torch"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        while not mark.exists():
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert child.returncode == 130, err.decode()
    said = " ".join(err.decode().split())
    assert f"stopped: 1 of {NIGHTS} recordings are committed" in said
    assert "run the same command to resume" in said
    assert "Traceback" not in said
    assert [e["event"] for e in entries[:-1]] == ["recording"]
    assert entries[-1]["stopped"] == "interrupted"
    assert sleepfm_index.verify(path).ok
    report = sleepfm_index.build(path, [cohort], workers=1, **OPTIONS)
    assert [o.status for o in report.outcomes] == ["already there"] + ["added"] * (NIGHTS - 1)
    _same(path, alone)


def test_the_log_holds_every_recording_and_the_whole(
    cohort: Path, tmp_path: Path, weights: Path
) -> None:
    folder, log = tmp_path / "nights", tmp_path / "log.json"
    folder.mkdir()
    (folder / "bad.edf").write_bytes(b"no recording")
    (folder / "good.edf").write_bytes((cohort / "night-1.edf").read_bytes())
    words = ("build", folder, "--log-json", log, "--backend", "torch", "--weights", weights)
    done = commands.run(*words, "--store", tmp_path / "s")
    assert done.returncode == 0
    said = done.stderr.decode()
    assert said.count("failed: bad.edf:") == 1
    assert "2/2 recordings, 2 clips" in said and "h of sleep per second, 1 failed" in said
    bad, good, whole = [json.loads(line) for line in log.read_text().splitlines()]
    assert (bad["status"], bad["file"]) == ("failed", "bad.edf") and bad["reason"]
    assert (good["status"], good["recording_id"], good["clips"]) == ("added", "good", 2)
    assert set(good["seconds"]) == {"read", "cut", "encode", "commit"}
    assert (whole["event"], whole["added"], whole["failed"]) == ("build", 1, 1)
    hashed = commands.run(*words, "--ids", "hash", "--store", tmp_path / "t")
    assert hashed.returncode == 0
    assert b"good.edf" not in b"".join(log.read_bytes().splitlines()[3:])


_UNGUARDED = """
import sys
import sleepfm_index

options = {"workers": 2, "backend": "torch", "weights": sys.argv[3]}
report = sleepfm_index.build(sys.argv[1], [sys.argv[2]], **options)
print(len(report.of("added")))
"""


def test_a_script_without_a_main_guard_can_build(
    cohort: Path, tmp_path: Path, weights: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(_UNGUARDED)
    command = [sys.executable, str(script), str(tmp_path / "s"), str(cohort), str(weights)]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.stdout.split() == [str(NIGHTS).encode()], done.stderr.decode()


def test_small_cohorts_are_read_in_this_process(cohort: Path) -> None:
    from sleepfm.recordings import find_recordings

    assert suitable_workers(find_recordings([cohort]).recordings) == 1
