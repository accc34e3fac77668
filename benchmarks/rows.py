"""Cost of reading the metadata of ten hits: from Parquet, memory-mapped, and by a full scan.

    python benchmarks/rows.py                        four segments of a million clips
    python benchmarks/rows.py --clips 100000         a quick run

Stores without vectors are written with several sizes of Parquet row groups. All numbers of the
metadata are drawn at random, so that they hardly compress. Figures are medians of processor time,
because DuckDB uses all cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
from machine import machine
from store import WEIGHTS, night

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.schema import clip_schema
from sleepfm_index.storage import segments
from sleepfm_index.storage.metadata import Metadata
from sleepfm_index.storage.row_cache import write_rows
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

SEGMENTS = 4
GROUPS = (122_880, 32_768, 16_384, 8_192, 4_096)
HITS = 10
NIGHT = 960


def drawn(number: int, clips: int) -> SegmentData:
    """Draw the metadata of many nights, as a compacted segment has it."""
    whole = night(number, clips)
    rng = np.random.default_rng(number)
    table = whole.clips
    nights = pa.array([f"night-{number}-{at:06d}" for at in range(clips // NIGHT + 1)])
    names = nights.take(pa.array(np.arange(clips) // NIGHT))
    for name in ("recording_id", "subject_id"):
        table = table.set_column(table.schema.get_field_index(name), name, names)
    for at, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            values = pa.array(rng.random(clips)).cast(field.type)
            table = table.set_column(at, field, values)
    return dataclasses.replace(whole, clips=table, vectors={})


def milliseconds(work: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - start))
    return statistics.median(taken)


def answered(metadata: Metadata, clips: int) -> tuple[float, float, float]:
    """Return milliseconds for ten random hits, the clip ids of a night, and a full scan."""
    rng = np.random.default_rng(0)
    metadata.rows(np.zeros(1, np.int64))
    return (
        milliseconds(lambda: metadata.rows(rng.integers(0, clips, HITS)), 20),
        milliseconds(lambda: metadata.runs("recording_id", "night-2-000007"), 5),
        milliseconds(
            lambda: metadata.select("SELECT stage, avg(clock) FROM clips GROUP BY stage"), 5
        ),
    )


def mapped(path: Path, clips: int) -> tuple[float, float, float, float]:
    """Return MB of mapped rows, and milliseconds for ten hits and the clip ids of two nights."""
    with Writer(path) as writer:
        entry = write_rows(path, writer.manifest)
        writer.commit(dataclasses.replace(writer.manifest, row_cache=entry))
    rng = np.random.default_rng(0)
    with sleepfm_index.open(path) as store:
        store.rows(np.zeros(1, np.int64))
        return (
            entry.entry.bytes / 1e6,
            milliseconds(lambda: store.rows(rng.integers(0, clips, HITS)), 20),
            milliseconds(lambda: store.runs("recording_id", "night-2-000007"), 1),
            milliseconds(lambda: store.runs("recording_id", "night-2-000007"), 5),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=1_000_000, help="clips per segment")
    args = parser.parse_args()
    total = SEGMENTS * args.clips
    columns = len(clip_schema(ROBUST.modalities))
    print(f"{machine()}; {total:,} clips, {columns} columns and the subject's")
    print("rows a group   MB of metadata   ten hits, ms   a night's clip ids, ms   full scan, ms")
    for group in GROUPS:
        with (
            tempfile.TemporaryDirectory() as name,
            mock.patch.object(segments, "ROW_GROUP", group),
        ):
            path = Path(name) / "store"
            with Writer(path, WEIGHTS, ROBUST) as writer:
                for number in range(SEGMENTS):
                    writer.append(drawn(number, args.clips))
            size = sum(p.stat().st_size for p in path.rglob("*.parquet")) / 1e6
            with sleepfm_index.open(path) as store:
                hits, own, scan = answered(store.metadata, total)
            if group == GROUPS[-1]:
                size_mapped, hits_mapped, first, own_mapped = mapped(path, total)
        print(f"{group:12,} {size:16,.0f} {hits:14.1f} {own:24.1f} {scan:15.1f}", flush=True)
    print(f"mapped       {size_mapped:16,.0f} {hits_mapped:14.1f} {own_mapped:24.1f}")
    print(f"the clip ids of a process's first night, mapped: {first:.1f} ms")


if __name__ == "__main__":
    main()
