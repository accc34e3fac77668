"""milvus-lite: IVF_FLAT in a file."""

from __future__ import annotations

import time

from common import K, arguments, sweep
from pymilvus import DataType, MilvusClient

data, threads = arguments()
file = data.folder / "milvus.db"
fresh = not (data.folder / "milvus.seconds").exists()
if fresh and file.exists():
    file.unlink()
client = MilvusClient(str(file))
start = time.perf_counter()
if fresh:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("number", DataType.DOUBLE)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=512)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 1024})
    client.create_collection("clips", schema=schema, index_params=index)
    for first, block in data.blocks(2000):
        rows = zip(data.number[first : first + len(block)].tolist(), block, strict=True)
        client.insert(
            "clips",
            [{"id": first + i, "number": n, "vector": v} for i, (n, v) in enumerate(rows)],
        )
    client.flush("clips")
    (data.folder / "milvus.seconds").write_text(str(time.perf_counter() - start))
built = float((data.folder / "milvus.seconds").read_text())
client.load_collection("clips")
now = {"nprobe": 16}


def ask(queries, where=""):
    found = client.search(
        "clips", list(queries), limit=K, filter=where, search_params={"params": dict(now)}
    )
    return [[hit["id"] for hit in hits] for hits in found]


sweep(
    "milvus-lite IVF_FLAT",
    data,
    threads,
    (16, 32, 64, 91, 128, 181, 256, 512, 1024),
    lambda setting: now.update(nprobe=setting),
    lambda q: ask(q[None])[0],
    ask,
    lambda share: lambda q: ask(q[None], f"number < {share}")[0],
    build_s=built,
)
