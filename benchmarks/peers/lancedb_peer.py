"""LanceDB: IVF_PQ on disk, refined from the vectors."""

from __future__ import annotations

import time

import lancedb
import pyarrow as pa
from common import K, arguments, sweep

data, threads = arguments()
connection = lancedb.connect(str(data.folder / "lance"))
rows = len(data.vectors)
start = time.perf_counter()
if (data.folder / "lance.seconds").exists():
    table = connection.open_table("clips")
    built = float((data.folder / "lance.seconds").read_text())
else:
    kind = pa.list_(pa.float32(), 512)
    schema = pa.schema([("id", pa.int64()), ("number", pa.float64()), ("vector", kind)])

    def batches():
        for first, block in data.blocks():
            last = first + len(block)
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(range(first, last)),
                    pa.array(data.number[first:last]),
                    pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), 512),
                ],
                schema=schema,
            )

    table = connection.create_table("clips", batches(), schema=schema, mode="overwrite")
    lists = 1 << round(rows**0.5).bit_length() - 1
    table.create_index(
        metric="dot", vector_column_name="vector", num_partitions=lists, num_sub_vectors=64
    )
    built = time.perf_counter() - start
    (data.folder / "lance.seconds").write_text(str(built))
now = {"probes": 20, "refine": 10}


def use(setting: tuple[int, int]) -> None:
    now["probes"], now["refine"] = setting


def ask(query, where=None):
    search = table.search(query, vector_column_name="vector").distance_type("dot")
    search = search.nprobes(now["probes"]).refine_factor(now["refine"]).limit(K).select(["id"])
    if where is not None:
        search = search.where(where, prefilter=True)
    return search.to_arrow()["id"].to_pylist()


sweep(
    "LanceDB IVF_PQ",
    data,
    threads,
    ((16, 10), (32, 20), (45, 30), (64, 50), (91, 50), (128, 50), (256, 100), (512, 200)),
    use,
    ask,
    None,
    lambda share: lambda q: ask(q, f"number < {share}"),
    build_s=built,
)
