"""How long one query by clip id takes as a whole process, and what the time goes to.

python benchmarks/query.py --store sleepfm-demo/store
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from machine import machine

_PHASES = """
import json, sys, time
start = time.perf_counter()
marks = []
def mark(name):
    global start
    marks.append((name, time.perf_counter() - start))
    start = time.perf_counter()
import numpy; mark("import numpy")
import pyarrow, pyarrow.parquet; mark("import pyarrow")
import duckdb; mark("import duckdb")
import faiss; mark("import faiss")
import typer, rich.table, rich.progress; mark("import typer, rich")
import sleepfm_cli.main, sleepfm_index; mark("import sleepfm_cli, sleepfm_index")
from sleepfm_index.query.answer import Question
store = sleepfm_index.open(sys.argv[1]); mark("open: read the manifest")
store.metadata; mark("open DuckDB, lock it down")
store._index("bas"); mark("check and map the index")
store.query("ecg", to="bas", clip=int(sys.argv[2])); mark("answer")
print(json.dumps(marks))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sleepfm-demo/store")
    parser.add_argument("--clip", default="1")
    parser.add_argument("--runs", type=int, default=15)
    asked = parser.parse_args()
    words = ["query", "--modality", "ecg", "--clip", asked.clip, "--store", asked.store]
    commands = {
        "sleepfm-index query --modality ecg --clip 1": [
            *(sys.executable, "-m", "sleepfm_cli.main"),
            *words,
        ],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    print(machine())
    wall: dict[str, list[float]] = {name: [] for name in commands}
    phases: dict[str, list[float]] = {}
    for run in range(asked.runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            if run:  # the first one warms the page cache
                wall[name].append(time.perf_counter() - start)
        done = subprocess.run(
            [sys.executable, "-c", _PHASES, asked.store, asked.clip],
            check=True,
            capture_output=True,
        )
        if run:
            for name, seconds in json.loads(done.stdout):
                phases.setdefault(name, []).append(seconds)
    print(f"\n{'whole process':48s} {'median s':>9s} {'min':>7s} {'max':>7s}   ({asked.runs} runs)")
    for name, seconds in wall.items():
        low, high = min(seconds), max(seconds)
        print(f"{name:48s} {statistics.median(seconds):9.3f} {low:7.3f} {high:7.3f}")
    print(f"\n{'inside one process':48s} {'median s':>9s}")
    for name, seconds in phases.items():
        print(f"{name:48s} {statistics.median(seconds):9.3f}")


if __name__ == "__main__":
    main()
