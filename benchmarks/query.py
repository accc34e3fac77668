"""Latency of one query by clip id: of a whole process, and of the search alone.

    python benchmarks/query.py --store sleepfm-demo/store     an existing store
    python benchmarks/query.py --rows 2000 --runs 3           drawn vectors in a temporary store
    python benchmarks/query.py --rows 60000 --index IVF256,TC96x4fs --against ../base

`--against` is another working tree of this project, whose code answers the same queries alternately
with this one; the table shows both.
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
asking = asking[:: max(1, len(asking) // 150)]
vectors = store.vectors.of(asking, "ecg")[0]
def timed(work, over):
    for one in over[:20]:
        work(one)
    seconds = []
    for one in over:
        start = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
found = {
    "search": timed(lambda v: store.find("bas", v[None], 10), vectors),
    "search, exact": timed(lambda v: store.find("bas", v[None], 10, exact=True), vectors[:40]),
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
    parser.add_argument("--index", help="kind of index of a drawn store; default: exact search")
    parser.add_argument("--clip", default="1")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--against", type=Path, action="append", default=[])
    args = parser.parse_args()
    if args.store is not None and not (args.store / "manifest.json").is_file():
        sys.exit(
            f"there is no store at {args.store}; make one with make demo, "
            "or leave --store out: then one is drawn"
        )
    with tempfile.TemporaryDirectory() as scratch:
        store = args.store
        if store is None:
            store = Path(scratch) / "store"
            draw(store, args.rows, args.index)
        print(machine())
        trees = [ROOT, *(tree.resolve() for tree in args.against)]
        compare(trees, store, args.clip, args.runs)


def draw(store: Path, rows: int, index: str | None) -> None:
    """Write a store of drawn vectors, every clip with `bas` and `ecg`."""
    sys.path[:0] = [str(ROOT), str(ROOT / "index"), str(ROOT / "tests")]
    import numpy as np
    from embeddings import NIGHT, Embeddings
    from stores import WEIGHTS, drawn_segment

    import sleepfm_index
    from sleepfm.contract import ROBUST
    from sleepfm_index.storage.writer import Writer

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
    if index is not None:
        sleepfm_index.reindex(store, index=index, recall=0.95, targets=("bas",))


def compare(trees: list[Path], store: Path, clip: str, runs: int) -> None:
    """Run the same commands with the code of each tree in turn, and print medians."""
    words = ["query", "--modality", "ecg", "--to", "bas", "--clip", clip, "--store", str(store)]
    commands = {
        "whole process: sleepfm-index query": ["-m", "sleepfm_cli.main", *words],
        "whole process: python -c pass": ["-c", "pass"],
    }
    found: dict[str, dict[Path, list[float]]] = {}
    for run in range(runs + 1):  # the first one warms the page cache
        for tree in trees:
            values: list[tuple[str, float]] = []
            for name, command in commands.items():
                start = time.perf_counter()
                python(tree, *command)
                values.append((name, time.perf_counter() - start))
            values += json.loads(python(tree, "-c", _PHASES, str(store), clip))
            warm: dict[str, Any] = json.loads(python(tree, "-c", _SEARCHES, str(store)))
            values += [(f"warm: {name}", seconds) for name, seconds in warm.items()]
            for name, seconds in values:
                if run:
                    found.setdefault(name, {}).setdefault(tree, []).append(seconds)
    heads = ["here", *(tree.name for tree in trees[1:])]
    print(f"\n{'ms, medians of ' + str(runs):42s}", *(f"{head:>12s}" for head in heads))
    for name, seconds in found.items():
        medians = (1000 * statistics.median(seconds[tree]) for tree in trees)
        print(f"{name:42s}", *(f"{value:12.2f}" for value in medians))


def python(tree: Path, *words: str) -> str:
    """Run Python with the code of one tree; return its output."""
    paths = [str(tree), str(tree / "index"), str(tree / "cli")]
    done = subprocess.run(
        [sys.executable, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    return done.stdout


if __name__ == "__main__":
    main()
