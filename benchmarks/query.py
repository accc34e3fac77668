"""Latency of one query by clip id: of a whole process, and of the search alone.

    python benchmarks/query.py --store sleepfm-demo/store     an existing store
    python benchmarks/query.py --rows 2000 --runs 3           drawn vectors in a temporary store
    python benchmarks/query.py --rows 60000 --index IVF256,TC96x4fs --against ../base

`--against` is another working tree of this project, whose code answers the same queries alternately
with this one; the table shows both. Each tree runs with its own code only. Without --store, each
draws a store of the same vectors, because formats differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# Only what every tree has: tests/stores.py holds the names of the modules it draws with.
_DRAW = """
import sys
sys.path += sys.argv[4:]
from pathlib import Path
import numpy as np
import sleepfm_index
from embeddings import NIGHT, Embeddings
from stores import ROBUST, WEIGHTS, Writer, drawn_segment
store, rows, index = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
drawn = Embeddings()
with Writer(store, WEIGHTS, ROBUST) as writer:
    for number, start in enumerate(range(0, rows, NIGHT)):
        count = min(NIGHT, rows - start)
        segment = drawn_segment(f"night{number}", count, number, lacking=0.0)
        vectors = drawn.night(number, clips=count)
        for modality in segment.vectors:
            np.copyto(segment.vectors[modality], vectors[str(modality)])
        writer.append(segment)
sleepfm_index.compact(store)
kind = None if index == "planned" else index
sleepfm_index.reindex(store, index=kind, recall=0.95, targets=("bas",))
"""

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
store = sleepfm_index.open(sys.argv[1]); mark("open: read the manifest")
store.metadata; mark("open DuckDB, lock it down")
clip = int(sys.argv[2])
vector = store.vectors.of(numpy.array([clip]), "ecg")[0]; mark("map vectors, read one")
store.find("bas", vector, 10); mark("map the index, first search")
store.query("ecg", to="bas", clip=clip); mark("first answer")
print(json.dumps(marks))
"""
_SEARCHES = """
import json, statistics, sys, time
import numpy as np
import sleepfm_index
store = sleepfm_index.open(sys.argv[1])
asking = store.metadata.clip_ids("has_ecg")
asking = asking[:: max(1, len(asking) // 50)][:50]
vectors = store.vectors.of(asking, "ecg")[0]
def timed(work, over):
    for one in over[:5]:
        work(one)
    seconds = []
    for one in over:
        start = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
found = {
    "search": timed(lambda v: store.find("bas", v[None], 10), vectors),
    "search, exact": timed(lambda v: store.find("bas", v[None], 10, exact=True), vectors[:10]),
    "query": timed(lambda c: store.query("ecg", to="bas", clip=int(c)), asking),
}
start = time.perf_counter()
store.search("bas", vectors, 10)
found["search in a batch, per query"] = (time.perf_counter() - start) / len(vectors)
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--rows", type=int, default=2000, help="clips of a drawn store")
    parser.add_argument(
        "--index", default="planned", help="kind of index of a drawn store; by default as a build"
    )
    parser.add_argument("--clip", default="1")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path, action="append", default=[])
    args = parser.parse_args()
    if args.store is not None and not (args.store / "manifest.json").is_file():
        sys.exit(
            f"there is no store at {args.store}; make one with make demo, "
            "or leave --store out: then one is drawn"
        )
    trees = [ROOT, *(tree.resolve() for tree in args.against)]
    with tempfile.TemporaryDirectory() as scratch:
        stores = {tree: args.store or Path(scratch, str(n)) for n, tree in enumerate(trees)}
        if args.store is None:
            for tree, store in stores.items():
                folders = [str(tree / "tests"), str(HERE)]
                python(tree, "-c", _DRAW, str(store), str(args.rows), args.index, *folders)
        print(machine())
        compare(stores, args.clip, args.runs)


def compare(stores: dict[Path, Path], clip: str, runs: int) -> None:
    """Run the same commands with the code of each tree in turn, and print medians."""
    found: dict[str, dict[Path, list[float]]] = {}
    for run in range(runs + 1):  # the first one warms the page cache
        for tree, store in stores.items():
            values: list[tuple[str, float]] = []
            words = ["query", "--modality", "ecg", "--to", "bas", "--clip", clip]
            query = ["-m", "sleepfm_cli.main", *words, "--store", str(store)]
            for name, command in (
                ("sleepfm-index query", query),
                ("sleepfm-index query --format json", [*query, "--format", "json"]),
                ("python -c pass", ["-c", "pass"]),
            ):
                start = time.perf_counter()
                python(tree, *command)
                values.append((f"process: {name}", time.perf_counter() - start))
            values += json.loads(python(tree, "-c", _PHASES, str(store), clip))
            warm: dict[str, Any] = json.loads(python(tree, "-c", _SEARCHES, str(store)))
            values += [(f"warm: {name}", seconds) for name, seconds in warm.items()]
            for name, seconds in values:
                if run:
                    found.setdefault(name, {}).setdefault(tree, []).append(seconds)
    heads = ["here", *(tree.name for tree in list(stores)[1:])]
    print(f"\n{'ms, medians of ' + str(runs):42s}", *(f"{head:>12s}" for head in heads))
    for name, seconds in found.items():
        medians = (1000 * statistics.median(seconds[tree]) for tree in stores)
        print(f"{name:42s}", *(f"{value:12.2f}" for value in medians))


def python(tree: Path, *words: str) -> str:
    """Run Python with the code of one tree and of no other; return its output."""
    paths = [str(tree), str(tree / "index"), str(tree / "cli")]
    done = subprocess.run(
        [sys.executable, "-P", *words],  # -P: the working directory is not searched for modules
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "",  # set, it would have every process compile the code
        },
    )
    if done.returncode:
        sys.exit(f"with the code of {tree}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
