"""FAISS's own indexes, as its users build them: IVF-PQ with exact reranking, or an HNSW graph.

The kind is the argument after folder and threads: ``IVFPQ`` or ``HNSW``. Both hold the vectors as
float32 in memory.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import faiss
import numpy as np
from common import K, arguments, sweep

data, threads = arguments()
kind = sys.argv[3]
rows = len(data.vectors)
lists = max(16, round(4 * rows**0.5))
factory = {"IVFPQ": f"IVF{lists},PQ256x4fs,RFlat", "HNSW": "HNSW32,Flat"}[kind]
TRAINED = 100
"""Vectors per list to train on; beyond 256 FAISS draws some of them."""

saved = data.folder / f"faiss-{kind}.index"
seconds = saved.with_suffix(".seconds")
if seconds.exists():  # written last
    index = faiss.read_index(str(saved))
    built = float(seconds.read_text())
else:
    start = time.perf_counter()
    index = faiss.index_factory(512, factory, faiss.METRIC_INNER_PRODUCT)
    if kind == "HNSW":
        index.hnsw.efConstruction = 200
    some = np.sort(np.random.default_rng(1).permutation(rows)[: TRAINED * lists])
    index.train(np.asarray(data.vectors[some], np.float32))
    for _, block in data.blocks():
        index.add(block)
    built = time.perf_counter() - start
    faiss.write_index(index, str(saved))
    Path(seconds).write_text(str(built))
faiss.omp_set_num_threads(threads)


def parameters(setting: tuple[int, int] | int, selector: faiss.IDSelector | None = None):
    """Return FAISS's search parameters for a setting."""
    chosen = {} if selector is None else {"sel": selector}
    if isinstance(setting, int):
        return faiss.SearchParametersHNSW(efSearch=setting, **chosen)
    probes, factor = setting
    base = faiss.SearchParametersIVF(nprobe=probes, **chosen)
    return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=base)


used = {}


def use(setting: tuple[int, int] | int) -> None:
    used["setting"] = setting
    used["parameters"] = parameters(setting)


def filtered(share: str):
    mask = np.zeros(rows, bool)
    mask[data.allowed(share)] = True
    bits = np.packbits(mask, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    selected = parameters(used["setting"], selector)
    # FAISS's parameters do not keep the selector alive.
    return lambda q, _selector=selector: index.search(q[None], K, params=selected)[1][0]


settings = (
    (40, 60, 80, 120, 160, 240, 320, 480, 640, 1280)
    if kind == "HNSW"
    else [
        (probes, factor)
        for probes in (16, 23, 32, 45, 64, 91, 128, 181, 256)
        for factor in (3, 5, 10)
    ]
    + [(256, 30), (512, 10), (512, 30), (1024, 30)]
)
sweep(
    f"FAISS {factory}",
    data,
    threads,
    settings,
    use,
    lambda q: index.search(q[None], K, params=used["parameters"])[1][0],
    lambda queries: index.search(queries, K, params=used["parameters"])[1],
    filtered,
    build_s=built,
)
