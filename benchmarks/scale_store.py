"""The store of benchmarks/scale.py: drawn vectors, written segment by segment."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from embeddings import NIGHT, Embeddings

from sleepfm.contract import ROBUST
from sleepfm_index.schema import (
    EVENT_COLUMNS,
    RECORDING_COLUMNS,
    SUBJECT_COLUMNS,
    clip_schema,
)
from sleepfm_index.storage.manifest import WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

SEGMENT = 1_000_000
WITH_ECG = 6
"""One segment in this many has ecg, with which the others are searched."""
STAGES = ("W", "N1", "N2", "N3", "R")


class DrawnVectors(Mapping[Any, np.ndarray]):
    """Vectors of a segment, drawn when they are written."""

    def __init__(self, first: int, rows: int, names: tuple[str, ...]) -> None:
        self._first, self._rows, self._names = first, rows, names

    def __getitem__(self, modality: Any) -> np.ndarray:
        nights = range(self._first // NIGHT, -(-(self._first + self._rows) // NIGHT))
        parts = [list(nights)[at : at + 32] for at in range(0, len(nights), 32)]
        out = np.empty((len(nights) * NIGHT, 512), np.float16)
        with ProcessPoolExecutor() as pool:
            draw = partial(_nights, str(modality))
            for at, block in enumerate(pool.map(draw, parts)):
                out[at * 32 * NIGHT : at * 32 * NIGHT + len(block)] = block
        start = self._first - nights[0] * NIGHT
        return out[start : start + self._rows]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _nights(modality: str, numbers: list[int]) -> np.ndarray:
    return np.concatenate([Embeddings().night(n, (modality,))[modality] for n in numbers])


def write(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write the store segment by segment; segments that it has are skipped."""
    identity = WeightsIdentity("drawn", "0" * 64, False, "drawn at random for a benchmark")
    with Writer(folder / "store", identity, ROBUST) as writer:
        for number, first in enumerate(range(0, args.rows, SEGMENT)):
            rows = min(SEGMENT, args.rows - first)
            key = hashlib.sha256(f"{args.rows} {number}".encode()).hexdigest()
            if key in writer.manifest.sources:
                continue
            clips = np.arange(first, first + rows)
            nights, position = clips // NIGHT, clips % NIGHT
            names = pa.array([f"night-{n:06d}" for n in range(nights[0], nights[-1] + 1)])
            recording_ids = names.take(pa.array(nights - nights[0]))
            rng = np.random.default_rng(number)
            has = {"bas": True, "ecg": number % WITH_ECG == 0, "resp": False}
            values: dict[str, Any] = {
                "recording_id": recording_ids,
                "subject_id": recording_ids,
                "site": pa.array(["lab"]).take(pa.array(np.zeros(rows, int))),
                "start_s": 30.0 * position,
                "clock": np.mod(82800 + 30.0 * position, 86400),
                "stage": pa.array(STAGES).take(pa.array(rng.integers(0, 5, rows))),
                "raw_stage": pa.array([""]).take(pa.array(np.zeros(rows, int))),
            }
            values |= {f"has_{m}": np.full(rows, has[m]) for m in ROBUST.modalities}
            values |= {f"slots_{m}": np.full(rows, has[m], np.uint16) for m in ROBUST.modalities}
            values |= {f.name: pa.nulls(rows, f.type) for f in SUBJECT_COLUMNS}
            values["nsrr_age"] = (nights * 7919 % 1000 / 10).astype(np.float32)
            fields = [
                f
                for f in (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS)
                if f.name != "clip_id"
            ]
            records = {"source": key, "recording_id": f"segment-{number}", "clips": rows}
            writer.append(
                SegmentData(
                    key=key,
                    clips=pa.table(values, schema=pa.schema(fields)),
                    events=EVENT_COLUMNS.empty_table(),
                    recordings=pa.Table.from_pylist([records], schema=RECORDING_COLUMNS),
                    vectors=DrawnVectors(
                        first, rows, tuple(m for m, present in has.items() if present)
                    ),
                )
            )
            print(f"{first + rows:,} clips written", file=sys.stderr, flush=True)
    return {"bytes": sum(p.stat().st_size for p in (folder / "store").rglob("*") if p.is_file())}
