"""hnswlib: a graph over float32 vectors in memory."""

from __future__ import annotations

import time
from pathlib import Path

import hnswlib
import numpy as np
from common import K, arguments, sweep

data, threads = arguments()
index = hnswlib.Index(space="ip", dim=512)
saved = data.folder / "hnswlib.bin"
start = time.perf_counter()
if (data.folder / "hnswlib.seconds").exists():  # written last
    index.load_index(str(saved), max_elements=len(data.vectors))
    built = float((data.folder / "hnswlib.seconds").read_text())
else:
    index.init_index(len(data.vectors), M=16, ef_construction=200, random_seed=1)
    for first, block in data.blocks():
        index.add_items(block, np.arange(first, first + len(block)))
    built = time.perf_counter() - start
    index.save_index(str(saved))
    Path(data.folder / "hnswlib.seconds").write_text(str(built))
index.set_num_threads(threads)


def filtered(share: str):
    keep = np.zeros(len(data.vectors), bool)
    keep[data.allowed(share)] = True
    allow = lambda i: keep[i]  # noqa: E731
    return lambda q: index.knn_query(q[None], k=K, num_threads=1, filter=allow)[0][0]


sweep(
    "hnswlib",
    data,
    threads,
    (40, 60, 80, 120, 160, 240, 320, 480, 640, 1280),
    index.set_ef,
    lambda q: index.knn_query(q[None], k=K, num_threads=1)[0][0],
    lambda queries: index.knn_query(queries, k=K, num_threads=threads)[0],
    filtered,
    build_s=built,
)
