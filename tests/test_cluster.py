"""A scheduler and workers as processes of their own, killed in the middle of a build."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nights import COARSE, write_night
from stores import content

import sleepfm_index
from sleepfm.encoders.load import untrained
from sleepfm_index.building.dask_client import Cluster, connected
from sleepfm_index.errors import StoreError

pytest.importorskip("distributed", reason="needs pip install 'sleepfm-index[dask]'")

NIGHTS = 7
longer = pytest.mark.skipif(
    "SLEEPFM_TEST_CLUSTER" not in os.environ, reason="`make test-cluster` runs it"
)
HERE = Path(__file__).resolve().parent
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path),
    "OMP_NUM_THREADS": "1",
    "SLEEPFM_TEST_SECONDS": "0.1",
    "SLEEPFM_TEST_HELD": f"night-{NIGHTS - 1}",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    for seed in range(NIGHTS):
        write_night(folder / f"night-{seed}.edf", seconds=60, seed=seed)
    (folder / "night-3b.edf").write_bytes(b"0       no recording")
    untrained(1, COARSE).save(folder / "coarse.safetensors")
    (folder / "subjects.csv").write_text("recording_id,site,nsrr_age\nnight-2,lab,50\n")
    return folder


@pytest.fixture(scope="module")
def single(nights: Path, tmp_path_factory: pytest.TempPathFactory) -> sleepfm_index.Store:
    """The same nights built by one process."""
    path = tmp_path_factory.mktemp("single") / "store"
    # One thread, as the workers have: sums of float32 depend on how they are divided.
    words = ["build", str(nights), "--store", str(path), "--backend", "torch", "--threads", "1"]
    words += ["--subjects", str(nights / "subjects.csv"), "--workers", "1"]
    words += ["--weights", str(nights / "coarse.safetensors")]
    client = command(*words, cwd=path.parent)
    assert "7 recordings added" in finished(client)
    return sleepfm_index.open(path)


class Site:
    """A cluster on loopback, as a site would run it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int, *, nanny: bool = False) -> None:
        """Start a scheduler, and workers that find it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", port)
        how = ["--nthreads", "1", "--preload", str(HERE / "dask_preload.py")]
        how += ["--nanny" if nanny else "--no-nanny"]
        self.workers = [self._run("worker", self.address, *how) for _ in range(workers)]

    def _run(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{kind}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, "--no-dashboard", *words],
                env=os.environ | ENVIRONMENT,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """End all that was started, and what those started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


def build(site: Site, nights: Path, store: Path, *more: str) -> subprocess.Popen[bytes]:
    words = ["build", str(nights), "--store", str(store), "--engine", "dask"]
    words += ["--scheduler", site.address, "--backend", "torch", "--threads", "1"]
    return command(*words, *more, cwd=store.parent)


def command(*words: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sleepfm_cli.main", *words],
        env=os.environ | ENVIRONMENT,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(client: subprocess.Popen[bytes]) -> str:
    """Wait for a client to end; give what it said."""
    try:
        return client.communicate(timeout=300)[0].decode()
    except subprocess.TimeoutExpired:
        client.kill()
        return "killed after five minutes: " + client.communicate()[0].decode()


def until(true: Callable[[], bool], client: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not true():
        if client.poll() is not None or time.monotonic() > deadline:
            client.kill()
            raise AssertionError(finished(client))
        time.sleep(0.02)


def committed(store: Path) -> int:
    manifest = store / "manifest.json"
    return len(json.loads(manifest.read_bytes())["segments"]) if manifest.exists() else 0


def test_a_worker_and_the_scheduler_are_killed(
    site: Site, nights: Path, single: sleepfm_index.Store, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    more = ("--subjects", str(nights / "subjects.csv"))
    more += ("--weights", str(nights / "coarse.safetensors"))
    site.start(2)
    client = build(site, nights, store, *more)
    until(lambda: committed(store) >= 1, client)
    site.workers[0].kill()
    until(lambda: committed(store) >= 3, client)
    site.scheduler.kill()
    said = finished(client)
    assert client.returncode == 1 and "the Dask scheduler was lost" in said
    assert 3 <= committed(store) < NIGHTS
    site.stop()

    (tmp_path / "go").touch()
    site.start(1)
    client = build(site, nights, store, *more)
    said = finished(client)
    assert client.returncode == 0, said
    assert "no recording" in said or "night-3b" in said
    with sleepfm_index.open(store) as opened:
        assert content(opened) == content(single)
        assert len(opened.manifest.segments) == NIGHTS
        recordings = "SELECT * FROM recordings ORDER BY recording_id"
        assert opened.sql(recordings).table.equals(single.sql(recordings).table)
    assert sleepfm_index.verify(store).findings == ()
    assert not (store / "staging").exists()


@longer
def test_a_recording_that_kills_its_worker_is_listed(
    site: Site, nights: Path, single: sleepfm_index.Store, tmp_path: Path
) -> None:
    poisoned = tmp_path / "nights"
    poisoned.mkdir()
    for seed in range(3):
        (poisoned / f"night-{seed}.edf").symlink_to(nights / f"night-{seed}.edf")
    write_night(poisoned / "night-1-poison.edf", seconds=60, seed=99)
    store = tmp_path / "store"
    site.start(2, nanny=True)
    client = build(site, poisoned, store, "--weights", str(nights / "coarse.safetensors"))
    said = finished(client)
    assert client.returncode == 0, said
    assert "night-1-poison.edf" in said and "each time its worker died" in said
    with sleepfm_index.open(store) as opened:
        found = opened.sql("SELECT recording_id FROM recordings ORDER BY 1").table[0].to_pylist()
        assert found == ["night-0", "night-1", "night-2"]
    # Two deaths are what the scheduler allows here (ENVIRONMENT), and it is asked twice.
    assert 1 < len((tmp_path / "deaths").read_text()) <= 4


def test_no_scheduler_answers() -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(
            StoreError, match=r"cannot connect to a Dask scheduler at tcp://127\.0\.0\.1:1"
        ),
        connected(Cluster("tcp://127.0.0.1:1")),
    ):
        pass
