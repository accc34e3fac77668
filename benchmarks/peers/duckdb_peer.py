"""DuckDB: every vector compared, in SQL."""

from __future__ import annotations

import time

import duckdb
import pyarrow as pa
from common import K, arguments, sweep

data, threads = arguments()
file = data.folder / "vectors.duckdb"
fresh = not (data.folder / "duckdb.seconds").exists()
if fresh and file.exists():
    file.unlink()
connection = duckdb.connect(str(file), config={"threads": threads})
start = time.perf_counter()
if fresh:
    connection.execute("CREATE TABLE clips (id BIGINT, number DOUBLE, vector FLOAT[512])")
    for first, block in data.blocks():
        last = first + len(block)
        part = pa.table(
            {
                "id": pa.array(range(first, last)),
                "number": data.number[first:last],
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), 512),
            }
        )
        connection.register("part", part)
        connection.execute("INSERT INTO clips SELECT * FROM part")
        connection.unregister("part")
    connection.execute("CHECKPOINT")
    (data.folder / "duckdb.seconds").write_text(str(time.perf_counter() - start))
built = float((data.folder / "duckdb.seconds").read_text())


def ask(query, where="true"):
    return [
        row[0]
        for row in connection.execute(
            f"SELECT id FROM clips WHERE {where} ORDER BY "
            f"array_inner_product(vector, ?::FLOAT[512]) DESC LIMIT {K}",
            [query.tolist()],
        ).fetchall()
    ]


sweep(
    "DuckDB brute force",
    data,
    threads,
    ("all",),
    lambda _: None,
    ask,
    None,
    lambda share: lambda q: ask(q, f"number < {share}"),
    build_s=built,
)
