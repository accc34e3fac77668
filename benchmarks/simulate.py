"""Simulation of one night as an EDF+ file: wall time, CPU time and peak memory.

    python benchmarks/simulate.py [--hours 8] [--repeat 3]

Each repetition runs in its own process, with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from machine import machine

ONE_NIGHT = """
import json, resource, sys, time
from pathlib import Path
from sleepfm.simulate import simulate_cohort, simulate_night
simulate_night(0, 1, 1)
folder, hours, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
(path,) = simulate_cohort(folder, subjects=1, hours=hours, seed=seed)
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "cpu_seconds": time.process_time() - cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "imports_mb": before / 1024,
    "file_mb": path.stat().st_size / 2**20,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    print(machine())
    for seed in range(arguments.repeat):
        with tempfile.TemporaryDirectory() as folder:
            run = [sys.executable, "-c", ONE_NIGHT, folder, str(arguments.hours), str(seed)]
            output = subprocess.run(
                run, env=os.environ | threads, capture_output=True, text=True, check=True
            ).stdout
        figures = json.loads(output)
        print(
            f"{arguments.hours:g} h, seed {seed}: "
            + ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
        )


if __name__ == "__main__":
    main()
