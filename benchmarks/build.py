"""Build of many simulated nights: nights per hour, memory over time, and CPU use.

    python benchmarks/build.py [--nights 100] [--hours 8] [--workers N] [--folder F] [--store S]

Every night is a separate subject. The benchmark runs the command `sleepfm-index build` in its own
process, and sums the memory of this process and its workers every second (proportional set size,
Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from machine import machine
from night import write_night

from sleepfm.resources import cores


def write_cohort(folder: Path, nights: int, hours: float) -> None:
    """Write the nights, half at 200 Hz and half at mixed rates."""
    with ProcessPoolExecutor() as pool:
        paths = [folder / f"night-{i:04d}.edf" for i in range(nights)]
        even = [i % 2 == 0 for i in range(nights)]
        list(pool.map(write_night, paths, [hours] * nights, even, range(nights)))


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            text = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue
        found += map(int, text.split())
    return found


def memory_mib(pids: list[int]) -> float:
    """Return the sum of the proportional set sizes of processes, in MiB."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next((int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0)
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--folder", type=Path, help="write temporary files here")
    parser.add_argument("--store", type=Path, help="keep the store here; default: temporary")
    args = parser.parse_args()
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name) / "nights"
        folder.mkdir()
        write_cohort(folder, args.nights, args.hours)
        size = sum(p.stat().st_size for p in folder.iterdir())
        print(f"{args.nights} nights of {args.hours:g} h, {size / 2**30:.1f} GiB")
        log = Path(name) / "log.json"
        command = [sys.executable, "-m", "sleepfm_cli.main", "build", str(folder)]
        store = args.store or Path(name) / "store"
        command += ["--store", str(store), "--log-json", str(log)]
        command += ["--workers", str(args.workers)] if args.workers else []
        start = time.perf_counter()
        with (Path(name) / "out").open("w") as out:
            child = subprocess.Popen(command, stdout=out)
        samples = []
        while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
            samples.append(memory_mib(family(child.pid)))
            time.sleep(1)
        seconds = time.perf_counter() - start
        used = ended[2].ru_utime + ended[2].ru_stime
        whole = json.loads(log.read_text().splitlines()[-1])
    third = max(1, len(samples) // 3)
    parts = [samples[third : 2 * third], samples[2 * third :]]
    print(f"\n| | |\n|---|---|\n| recordings added | {whole['added']} of {args.nights} |")
    print(f"| seconds, from the start of the command to its end | {seconds:.1f} |")
    print(f"| nights per hour | {3600 * whole['added'] / seconds:,.0f} |")
    print(f"| clips/s | {whole['clips'] / seconds:,.0f} |")
    print(f"| processor time over time x {cores()} cores | {used / seconds / cores():.0%} |")
    peaks = " and ".join(f"{max(part, default=0):,.0f}" for part in parts)
    print(f"| peak memory, second and last third of the time, MiB | {peaks} |")


if __name__ == "__main__":
    main()
