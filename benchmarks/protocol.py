"""The paper's retrieval protocol: 90,000 candidates, six ordered pairs, three leave-one-out ones.

    python benchmarks/protocol.py [--candidates 90000] [--threads 2] [--side 4096]

Measures the wall time of all nine directions, and compares it with:

- the time that their matrix products alone would take at the peak speed of the machine, which is
  measured before and after in the same run;
- one argsort per query in numpy, and FAISS's flat index with default settings, both for a part of
  the queries of one direction and scaled up.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from embeddings import MODALITIES, Embeddings
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "index")]
DIRECTIONS = 9
SINGLE = 200
"""Queries that FAISS answers one by one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=90_000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--queries", type=int, default=1000, help="queries of the slow methods")
    parser.add_argument("--side", type=int, default=4096, help="of the matrices that give the peak")
    args = parser.parse_args()
    from threadpoolctl import threadpool_limits

    from sleepfm_index.evaluation.retrieval.tiled_ranks import shared_ranks

    n = args.candidates
    drawn = Embeddings()
    vectors = {m: drawn.rows(n, m).astype(np.float32) for m in MODALITIES}
    print(f"{machine()}; {args.threads} threads; {n:,} candidates, {DIRECTIONS} directions")
    with threadpool_limits(args.threads):
        before = peak(args.side)
    start = time.perf_counter()
    ranks = shared_ranks(vectors, threads=args.threads)
    seconds = time.perf_counter() - start
    with threadpool_limits(args.threads):
        after = peak(args.side)
        flops = 3 * 2 * 512 * n**2
        best = max(before, after)
        print(f"peak of matrix products: {before / 1e9:.0f} and {after / 1e9:.0f} GFLOP/s")
        top = np.mean([np.mean(r == 1) for r, _ in ranks.values()])
        print(
            f"sleepfm-index: {seconds:.1f} s, {flops / seconds / 1e9:.0f} GFLOP/s of products, "
            f"{flops / seconds / best:.0%} of the peak; mean top-1 {top:.3f}"
        )
        a, b = vectors["bas"], vectors["ecg"]
        some = a[: args.queries]
        for name, work in (
            ("numpy argsort", lambda: by_argsort(some, b)),
            ("FAISS flat at its default, 1 query a call", lambda: by_faiss(some[:SINGLE], b, 1)),
            ("FAISS flat at its default, all at once", lambda: by_faiss(some, b, len(some))),
        ):
            count = min(SINGLE, len(some)) if "1 query" in name else len(some)
            found = timed(work) / count * n * DIRECTIONS
            print(f"{name}: {found:.0f} s for all (scaled), {found / seconds:.1f} times ours")


def peak(side: int) -> float:
    """Return the best speed of a float32 product of square matrices, in FLOP/s."""
    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    return 2 * side**3 / min(timed(lambda: a @ a) for _ in range(5))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_argsort(queries: np.ndarray, targets: np.ndarray) -> list[int]:
    ranks = []
    for at, query in enumerate(queries):
        order = np.argsort(-(targets @ query))
        ranks.append(int(np.flatnonzero(order == at)[0]) + 1)
    return ranks


def by_faiss(queries: np.ndarray, targets: np.ndarray, together: int) -> None:
    import faiss

    index = faiss.IndexFlatIP(512)
    index.add(targets)
    for start in range(0, len(queries), together):
        # ten answers give recall@10 only; a median rank needs all
        index.search(queries[start : start + together], 10)


if __name__ == "__main__":
    main()
