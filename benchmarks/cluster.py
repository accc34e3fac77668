"""Speed-up by a Dask cluster, and its overhead per recording.

    python benchmarks/cluster.py nights         1, 2, 4 workers on the same simulated nights
    python benchmarks/cluster.py tasks          14,000 empty tasks on ever more workers
    python benchmarks/cluster.py rows           from a worker's rows to the client's commit

`nights` builds a store with the cores of this machine. `tasks` is a simulation: scheduler, client
and all workers are threads of one process, and the tasks are empty, with the jobs, keys and
priorities of a build. It measures all work of Dask itself on one core, which is an upper bound for
a scheduler with a core of its own. The self-monitoring of workers (a tick every 20 ms, a profile
every 10 ms) is switched off: on a cluster each worker has a core for it, here all of them would
share one.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine
from store import NIGHT, WEIGHTS, night

from sleepfm.contract import ROBUST
from sleepfm.recordings import RecordingFile
from sleepfm_index.building.recording_task import Job, Outcome, Rows
from sleepfm_index.building.staging import Staging, pack, staged_name, unpack
from sleepfm_index.building.subjects import Subject
from sleepfm_index.storage.writer import Writer

RECORDINGS = 14_000


UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "60s",
    "distributed.admin.tick.limit": "120s",
    "distributed.admin.system-monitor.interval": "60s",
}


def empty(job: Job, subject: Subject) -> str:
    return staged_name("0" * 64, job.recording_id, subject)


def tasks(workers: list[int], recordings: int) -> None:
    try:
        import dask
        import distributed
    except ImportError:
        sys.exit("tasks of a cluster need Dask: pip install 'sleepfm-index[dask]'")

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    print(
        f"{recordings:,} empty tasks; workers are threads of one process with scheduler and client"
    )
    print("workers   start, s   tasks, s   ms per recording   memory, MB")
    files = [RecordingFile(Path(f"/cohort/site-1/night-{at:06d}.edf")) for at in range(recordings)]
    jobs = [Job(file, file.stem) for file in files]
    for count in workers:
        start = time.perf_counter()
        with (
            dask.config.set(UNWATCHED),
            distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=False,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            client.wait_for_workers(count)
            started = time.perf_counter() - start
            start = time.perf_counter()
            futures = [
                client.submit(
                    empty,
                    job,
                    Subject(job.recording_id),
                    key=f"recording-{at}",
                    pure=False,
                    priority=-at,
                )
                for at, job in enumerate(jobs)
            ]
            names = {future.result() for future in futures}
            seconds = time.perf_counter() - start
            assert len(names) == recordings
            del futures
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            each = 1000 * seconds / recordings
            print(
                f"{count:7,}  {started:9.1f}  {seconds:9.1f}  {each:15.2f}  {peak:11,.0f}",
                flush=True,
            )


def rows(recordings: int) -> None:
    names = ("pack", "stage", "fetch", "unpack", "commit")
    spent = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        staging = Staging(f"{folder}/staging", "store")
        with Writer(Path(folder) / "store", WEIGHTS, ROBUST) as writer:
            for number in range(recordings):
                data = night(number)
                marks = [time.perf_counter()]
                packed = pack(Rows(Outcome(Path("a.edf"), "added"), data.key, data))
                marks.append(time.perf_counter())
                staging.write("rows/a.zip", packed)
                marks.append(time.perf_counter())
                content = staging.read("rows/a.zip")
                marks.append(time.perf_counter())
                back = unpack(content, Path("a.edf"), ROBUST.modalities)
                marks.append(time.perf_counter())
                assert back.data is not None
                writer.append(back.data)
                marks.append(time.perf_counter())
                for name, a, b in zip(names, marks, marks[1:], strict=False):
                    spent[name] += b - a
    print(
        f"{recordings} nights of {NIGHT} clips, {len(packed) / 1e6:.1f} MB staged each, local disk"
    )
    for name, seconds in spent.items():
        who = "worker" if name in ("pack", "stage") else "client"
        print(f"{name:<8}{1000 * seconds / recordings:8.1f} ms  by the {who}")


def nights(workers: list[int], recordings: int, hours: float) -> None:
    from sleepfm.simulate import simulate_cohort

    with tempfile.TemporaryDirectory() as folder:
        cohort = Path(folder) / "nights"
        simulate_cohort(cohort, subjects=recordings, hours=hours, seed=0)
        print(f"{recordings} simulated nights of {hours:g} h, one thread a worker")
        print("engine            seconds   processor s   recordings/h   efficiency   load before")
        one = 0.0
        for count in [0, *workers]:
            words = ["build", str(cohort), "--store", f"{folder}/{count}"]
            words += ["--threads", str(max(1, count)), "--workers", str(max(1, count))]
            words += ["--engine", "dask"] if count else []
            load, used = os.getloadavg()[0], processor_seconds()
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "sleepfm_cli.main", *words], check=True, capture_output=True
            )
            seconds = time.perf_counter() - start
            used = processor_seconds() - used
            one = seconds if count == workers[0] else one
            share = f"{one * workers[0] / (count * seconds):.2f}" if one else ""
            name = f"dask, {count} workers" if count else "local, 1 worker"
            print(
                f"{name:<16}{seconds:9.1f}  {used:12.1f}  {3600 * recordings / seconds:13.0f}  "
                f"{share:>11}  {load:11.1f}",
                flush=True,
            )


def processor_seconds() -> float:
    """Return the CPU time of the finished child processes, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("nights", "tasks", "rows"))
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--recordings", type=int)
    parser.add_argument("--hours", type=float, default=2.0)
    args = parser.parse_args()
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}")
    if args.what == "tasks":
        tasks(args.workers or [1, 10, 100, 1000], args.recordings or RECORDINGS)
    elif args.what == "rows":
        rows(args.recordings or 50)
    else:
        nights(args.workers or [1, 2, 4], args.recordings or 8, args.hours)


if __name__ == "__main__":
    main()
