"""Speed of appending to a store compared with plain disk writes; time and memory of opening.

    python benchmarks/store.py                       10^4, 10^5 and 10^6 clips
    python benchmarks/store.py --clips 10000000      needs 10 GB of disk per modality
    python benchmarks/store.py --segments 14000      commits to a store of that many segments
    python benchmarks/store.py --clips 500 --segments 3 --append 20    shows that it runs

Vectors are drawn at random.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import machine

from sleepfm.contract import ROBUST
from sleepfm.modality import EMBEDDING_DIM
from sleepfm_index.lifecycle.compact import SEGMENT_CLIPS
from sleepfm_index.schema import EVENT_COLUMNS, RECORDING_COLUMNS, SUBJECT_COLUMNS, clip_schema
from sleepfm_index.storage.manifest import Manifest, WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

WEIGHTS = WeightsIdentity("drawn", "0" * 64, False, "drawn at random")
NIGHT = 960
"""Clips of a night of 8 h."""
RECORDINGS, LARGE_RECORDINGS = 40, 5
"""Recordings of a night or less that are appended, and of more."""

_OPEN = """
import json, sys, time
import numpy as np
import sleepfm_index, sleepfm_index.storage.metadata, sleepfm_index.storage.vectors
def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        lines = file.read().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("Anonymous")) / 1024
path, clips = sys.argv[1], int(sys.argv[2])
before = anonymous()
start = time.perf_counter()
store = sleepfm_index.open(path)
opened = time.perf_counter() - start
memory_held = anonymous() - before
start = time.perf_counter()
ids = np.random.default_rng(0).integers(0, clips, 1000)
store.vectors.of(np.sort(ids), "ecg")
vectors = time.perf_counter() - start
after = anonymous() - before
start = time.perf_counter()
store.sql("SELECT stage, count(*) FROM clips GROUP BY stage")
sql = time.perf_counter() - start
print(json.dumps([opened, vectors, sql, memory_held, after, anonymous() - before]))
"""


def night(number: int, clips: int = NIGHT) -> SegmentData:
    """Draw a recording: unit vectors and every column of the schema."""
    rng = np.random.default_rng(number)
    name = f"night-{number:06d}"
    values: dict[str, object] = {
        "recording_id": [name] * clips,
        "subject_id": [name] * clips,
        "site": ["lab"] * clips,
        "start_s": 30.0 * np.arange(clips),
        "clock": np.mod(82800 + 30.0 * np.arange(clips), 86400),
        "stage": rng.choice(["W", "N1", "N2", "N3", "R"], clips),
        "raw_stage": [""] * clips,
    }
    values |= {f"has_{m}": np.ones(clips, bool) for m in ROBUST.modalities}
    values |= {f"slots_{m}": np.ones(clips, np.uint16) for m in ROBUST.modalities}
    values |= {field.name: pa.nulls(clips, field.type) for field in SUBJECT_COLUMNS}
    fields = [f for f in (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS) if f.name != "clip_id"]
    row = {"source": name, "recording_id": name, "subject_id": name, "clips": clips}
    return SegmentData(
        key=f"{number:016x}".ljust(64, "0"),
        clips=pa.table(values, schema=pa.schema(fields)),
        events=EVENT_COLUMNS.empty_table(),
        recordings=pa.Table.from_pylist([row], schema=RECORDING_COLUMNS),
        vectors={m: unit_vectors(rng, clips) for m in ROBUST.modalities},
    )


def unit_vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw unit vectors, float16 [n, 512]."""
    x = rng.standard_normal((n, EMBEDDING_DIM), np.float32)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


def plain(folder: Path, size: int) -> float:
    """Return the seconds to write and sync as many bytes in one file."""
    data = np.random.default_rng(0).bytes(size)
    start = time.perf_counter()
    handle = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)
    os.close(handle)
    seconds = time.perf_counter() - start
    (folder / "plain").unlink()
    return seconds


def append(folder: Path, sizes: list[int]) -> None:
    """Time the appending of recordings, compared with a plain write of as many bytes."""
    print("\nappending recordings, each its own commit, each compared with a plain write")
    print(
        f"{'clips':>9s} {'MB':>7s} {'clips/s':>9s} {'MB/s':>7s} {'plain MB/s':>11s} {'share':>7s}"
    )
    for clips in sizes:
        count = RECORDINGS if clips <= NIGHT else LARGE_RECORDINGS
        ours, theirs, size = [], [], 0
        with Writer(folder / "append", WEIGHTS, ROBUST) as writer:
            for number in range(count):
                data = night(number, clips)
                start = time.perf_counter()
                entry = writer.append(data)
                ours.append(time.perf_counter() - start)
                size = sum(file.bytes for file in entry.files.values())
                theirs.append(plain(folder, size))
        shutil.rmtree(folder / "append")
        mine, its = statistics.median(ours), statistics.median(theirs)
        print(
            f"{clips:9,d} {size / 1e6:7.1f} {clips / mine:9,.0f} {size / mine / 1e6:7.0f} "
            f"{size / its / 1e6:11.0f} {its / mine:7.0%}"
        )


def grown(path: Path, clips: int) -> None:
    """Write a store of large segments, as after compaction; its vectors repeat."""
    with Writer(path, WEIGHTS, ROBUST) as writer:
        for number, rows in enumerate(_parts(clips, SEGMENT_CLIPS)):
            data = night(number, min(rows, 10_000))
            repeat = -(-rows // data.clips.num_rows)
            tables = pa.concat_tables([data.clips] * repeat).slice(0, rows).combine_chunks()
            vectors = {m: np.tile(v, (repeat, 1))[:rows] for m, v in data.vectors.items()}
            writer.append(dataclasses.replace(data, clips=tables, vectors=vectors))


def _parts(whole: int, part: int) -> Iterator[int]:
    while whole > 0:
        yield min(whole, part)
        whole -= part


def opening(folder: Path, sizes: list[int]) -> None:
    """Time the opening of stores of several sizes, each in a separate process."""
    print("\nopening, median of 5 processes, pages in memory; anonymous memory beyond the imports")
    heads = ("open ms", "1000 vectors ms", "first SQL ms", "MB", "MB vectors", "MB SQL")
    print(f"{'clips':>11s} {'segments':>9s} " + " ".join(f"{h:>15s}" for h in heads))
    for clips in sizes:
        path = folder / f"store-{clips}"
        grown(path, clips)
        runs = []
        for _ in range(6):
            words = [sys.executable, "-c", _OPEN, str(path), str(clips)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
        times = [statistics.median(column) for column in zip(*runs[1:], strict=True)]
        shown = [1000 * t for t in times[:3]] + times[3:]
        segments = len(list((path / "segments").iterdir()))
        print(f"{clips:11,d} {segments:9d} " + " ".join(f"{x:15.1f}" for x in shown))
        shutil.rmtree(path)


def many_segments(folder: Path, count: int) -> None:
    """Time commits to a manifest with many one-recording segments."""
    path = folder / "many"
    with Writer(path, WEIGHTS, ROBUST) as writer:
        entry = writer.append(night(0))
        rest = [
            dataclasses.replace(
                entry,
                id=f"{n:016x}-1",
                first_clip_id=n * NIGHT,
                last_clip_id=(n + 1) * NIGHT - 1,
                sources=(f"{n:064x}",),
            )
            for n in range(1, count)
        ]
        manifest: Manifest = dataclasses.replace(
            writer.manifest, segments=(entry, *rest), next_clip_id=count * NIGHT
        )
        writer.commit(manifest)
        seconds = []
        for number in range(12):
            data = night(count + number)
            start = time.perf_counter()
            writer.append(data)
            seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    with Writer(path, WEIGHTS, ROBUST):
        pass
    reopened = time.perf_counter() - start
    size = (path / "manifest.json").stat().st_size
    print(
        f"\nwith {count:,} segments: manifest of {size / 1e6:.1f} MB, append of {NIGHT} clips "
        f"{statistics.median(seconds[1:]):.3f} s (the first {seconds[0]:.3f} s), "
        f"read and checked in {reopened:.3f} s"
    )
    shutil.rmtree(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, action="append", help="clips of the stores to open")
    parser.add_argument("--segments", type=int, default=14_000)
    parser.add_argument("--append", type=int, action="append", help="clips of appended recordings")
    parser.add_argument("--folder", type=Path, help="write temporary files here")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        append(Path(folder), args.append or [NIGHT, 100_000])
        many_segments(Path(folder), args.segments)
        opening(Path(folder), args.clips or [10**4, 10**5, 10**6])


if __name__ == "__main__":
    main()
