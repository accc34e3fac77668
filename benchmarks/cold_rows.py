"""Cost of reading the metadata of an answer with a cold page cache.

    python benchmarks/cold_rows.py --rows 1000000

Clips are drawn without vectors, and their rows are written as `reindex` writes them. Before each
answer the file is dropped from the page cache. An answer reads ten scattered rows, with and without
requesting all of them from the system first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import machine
from memory import drop
from store import WEIGHTS, night

from sleepfm.contract import ROBUST
from sleepfm_index.storage.manifest import read_manifest
from sleepfm_index.storage.row_cache import ClipRows, write_rows
from sleepfm_index.storage.writer import Writer

ANSWERS = 60
MAX_NIGHTS = 16
"""Maximum number of recordings in a segment of one source."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, help="folder of the store, which is kept; default: a temporary one"
    )
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.folder)
        return
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        folder = args.folder or Path(scratch) / "store"
        if not folder.exists():
            fill(folder, args.rows)
        print(f"{machine()}; {args.rows:,} clips; load {os.getloadavg()[0]:.1f}")
        print("| requested at once | p50, ms | p90, ms | waited for the disk | processor, ms |")
        print("|---|--:|--:|--:|--:|")
        words = [sys.executable, __file__, "--read", "--folder", str(folder)]
        for setting in ("off", "on"):
            env = os.environ | {"SLEEPFM_READAHEAD": setting}
            done = subprocess.run(words, env=env, check=True, capture_output=True, text=True)
            p50, p90, faults, processor = json.loads(done.stdout)
            print(f"| {setting} | {p50:.1f} | {p90:.1f} | {faults:.0f} | {processor:.1f} |")


def fill(folder: Path, rows: int) -> None:
    """Write clips and the memory-mapped file of their rows."""
    nights = [night(n) for n in range(min(MAX_NIGHTS, -(-rows // 960)))]
    with Writer(folder, WEIGHTS, ROBUST) as writer:
        while writer.manifest.rows < rows:
            some = nights[: -(-(rows - writer.manifest.rows) // 960)]
            parts = {
                name: pa.concat_tables([getattr(n, name) for n in some])
                for name in ("clips", "events", "recordings")
            }
            key = f"{writer.manifest.snapshot:064x}"
            writer.append(dataclasses.replace(some[0], key=key, vectors={}, **parts))
        entry = write_rows(folder, writer.manifest)
        writer.commit(dataclasses.replace(writer.manifest, row_cache=entry))


def read(folder: Path) -> None:
    """Time answers in this process, with the file dropped from the page cache before each."""
    import resource

    manifest = read_manifest(folder)
    file = folder / "indexes" / manifest.row_cache.file  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    seconds, faults, processor = [], [], []
    for answer in range(ANSWERS + 1):
        ids = rng.integers(0, manifest.stored_ids, 10)
        rows = ClipRows(folder, manifest, _no_tables)
        rows._mapped()
        drop(file)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        used = time.process_time()
        assert len(rows.rows(ids)) == 10
        if answer:
            seconds.append(1000 * (time.perf_counter() - start))
            processor.append(1000 * (time.process_time() - used))
            after = resource.getrusage(resource.RUSAGE_SELF)
            faults.append(after.ru_majflt - before.ru_majflt)
    p50, p90 = np.percentile(seconds, [50, 90])
    print(json.dumps([p50, p90, float(np.median(faults)), float(np.median(processor))]))


def _no_tables() -> None:
    raise AssertionError("the rows were read from the tables")


if __name__ == "__main__":
    main()
