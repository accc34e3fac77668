"""sleepfm-index as an engine of benchmarks/search.py, through an open store.

With the planned kind of index, or with the one that is given after folder and threads: ``HNSW32``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
from common import K, arguments, sweep
from embeddings import Embeddings

import sleepfm_index
from sleepfm.contract import ROBUST
from sleepfm_index.indexing.maintenance import IndexRequest
from sleepfm_index.indexing.planner import EXACT_ROWS, plan_rows
from sleepfm_index.indexing.reindex import update_indexes
from sleepfm_index.schema import (
    EVENT_COLUMNS,
    RECORDING_COLUMNS,
    SUBJECT_COLUMNS,
    clip_schema,
)
from sleepfm_index.storage.manifest import SearchSetting, WeightsIdentity
from sleepfm_index.storage.segments import SegmentData
from sleepfm_index.storage.writer import Writer

data, threads = arguments()
graph = "HNSW32" in sys.argv
path = data.folder / ("store-graph" if graph else "store")
seconds = path.with_suffix(".seconds")
QUERIES = 20_000


def segment() -> SegmentData:
    """All vectors as one segment; 20,000 clips that are not queried have ecg too."""
    rows = len(data.vectors)
    ecg = np.zeros((rows, 512), np.float16)
    others = np.setdiff1d(np.arange(rows), np.load(data.folder / "asked.npy"))
    some = np.random.default_rng(2).choice(others, min(len(others), QUERIES), replace=False)
    ecg[some] = Embeddings().clips(some, "ecg")
    has = {"bas": np.ones(rows, bool), "ecg": np.isin(np.arange(rows), some)}
    values: dict[str, Any] = {
        f"has_{m}": has.get(m, np.zeros(rows, bool)) for m in ROBUST.modalities
    }
    values |= {f"slots_{m}": values[f"has_{m}"].astype(np.uint16) for m in ROBUST.modalities}
    values |= {"start_s": 30.0 * np.arange(rows), "number": data.number}
    fields = [f for f in (*clip_schema(ROBUST.modalities), *SUBJECT_COLUMNS) if f.name != "clip_id"]
    fields.append(pa.field("number", pa.float64()))
    columns = {f.name: values.get(f.name, pa.nulls(rows, f.type)) for f in fields}
    return SegmentData(
        key=hashlib.sha256(str(rows).encode()).hexdigest(),
        clips=pa.table(columns, schema=pa.schema(fields)),
        events=EVENT_COLUMNS.empty_table(),
        recordings=RECORDING_COLUMNS.empty_table(),
        vectors={"bas": np.asarray(data.vectors), "ecg": ecg},
    )


start = time.perf_counter()
if seconds.exists():
    built = float(seconds.read_text())
else:
    with Writer(path, WeightsIdentity("drawn", "0" * 64, False), ROBUST) as writer:
        if not writer.manifest.segments:
            writer.append(segment())
        planned = plan_rows(max(len(data.vectors), EXACT_ROWS + 1)).kind
        kind = "HNSW32" if graph else planned
        start = time.perf_counter()
        update_indexes(writer, IndexRequest(index=kind, recall=0.99, targets=("bas",)))
    built = time.perf_counter() - start
    seconds.write_text(str(built))

sleepfm_index.set_threads(threads)
store = sleepfm_index.open(path)
(entry,) = (i for i in store.manifest.indexes if i.target == "bas")
measured = entry.settings


def use(setting: Any) -> None:
    """Search with given settings, or with those of the store."""
    settings = measured
    if setting != "as calibrated":
        effort, depth = setting
        parameters = {"ef" if graph else "probes": effort}
        settings = (SearchSetting(1.0, depth, parameters), *measured[1:])
    here = store._resources().searcher
    here._entries["bas"] = dataclasses.replace(entry, settings=settings)


def filtered(share: str) -> Any:
    use("as calibrated")
    allowed = store.metadata.clip_ids(f"number < {share}")
    return lambda q: store.search("bas", q[None], K, allowed)[0][0]


sweep(
    "sleepfm-index HNSW32" if graph else "sleepfm-index",
    data,
    threads,
    [(ef, 20) for ef in (40, 60, 80, 120, 160, 240, 320)]
    if graph
    else [
        (probes, depth)
        for probes in (16, 23, 32, 45, 64, 91, 128, 181, 256)
        for depth in (30, 50, 100)
    ],
    use,
    lambda q: store.search("bas", q[None], K)[0][0],
    lambda queries: [ids for ids, _ in store.search("bas", queries, K)],
    filtered,
    build_s=built,
)
print(f'{{"engine": "sleepfm-index", "threads": {threads}, "mode": "note", "error": '
      f'"calibrated: {[p.to_json() for p in measured]}"}}')  # fmt: skip
