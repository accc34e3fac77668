"""usearch: a graph over float16 vectors in memory."""

from __future__ import annotations

import time

import numpy as np
from common import K, arguments, sweep
from usearch.index import Index

data, threads = arguments()
index = Index(ndim=512, metric="ip", dtype="f16", connectivity=16, expansion_add=200)
saved = data.folder / "usearch.bin"
start = time.perf_counter()
if (data.folder / "usearch.seconds").exists():  # written last
    index.load(str(saved))
    built = float((data.folder / "usearch.seconds").read_text())
else:
    for first, block in data.blocks():
        index.add(np.arange(first, first + len(block)), block)
    built = time.perf_counter() - start
    index.save(str(saved))
    (data.folder / "usearch.seconds").write_text(str(built))


def expand(setting: int) -> None:
    index.expansion_search = setting


sweep(
    "usearch f16",
    data,
    threads,
    (40, 64, 90, 128, 180, 256, 360, 512, 1024, 2048),
    expand,
    lambda q: index.search(q, K, threads=1).keys,
    lambda queries: index.search(queries, K, threads=threads).keys,
    None,
    build_s=built,
)
