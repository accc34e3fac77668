"""Cost and recall of a graph index (HNSW): building, opening, and search.

    python benchmarks/graphs.py --rows 100000 --links 32

Vectors are drawn (benchmarks/embeddings.py): `bas` is searched with `ecg`. Recall is relative to
exact search. Times are processor times of one thread, which other work on the machine disturbs less
than wall time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from embeddings import Embeddings
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "index")]
QUERIES = 200
BLOCK = 8192
EF = (20, 40, 80, 160, 320, 640, 1280)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--links", type=int, default=32)
    args = parser.parse_args()
    from sleepfm_index import set_threads
    from sleepfm_index.search.exact import candidates, rank
    from sleepfm_index.search.hnsw import HNSW
    from sleepfm_index.storage.paths import INDEXES

    set_threads(1)
    drawn = Embeddings()
    vectors = np.concatenate(list(drawn.blocks(args.rows, "bas"))).astype(np.float32)
    chosen = np.sort(np.random.default_rng(0).choice(args.rows, min(QUERIES, args.rows), False))
    queries = drawn.clips(chosen, "ecg").astype(np.float32)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for at in range(0, args.rows, BLOCK):
            some = vectors[at : at + BLOCK]
            yield np.arange(at, at + len(some)), some

    def read(ids: np.ndarray) -> np.ndarray:
        return vectors[ids]

    near = candidates(blocks(), queries, 10, read)
    truth = [rank(read, q, ids, 10)[0] for q, ids in zip(queries, near, strict=True)]
    kind = HNSW(args.links)
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        store = Path(scratch)
        (store / INDEXES).mkdir()
        start = time.process_time()
        entry = kind.write(store, "bas", (), kind, blocks())
        built = time.process_time() - start
        start = time.process_time()
        graph = kind.open(store, entry)
        opened = time.process_time() - start
        print(f"{machine()}; {args.rows:,} x 512, {kind}")
        print(
            f"built in {1e6 * built / args.rows:.0f} us per clip, "
            f"{entry.entry.bytes / args.rows:.0f} "
            f"bytes per clip, opened in {1000 * opened:.0f} ms"
        )
        print("| ef | search, ms | recall@10 |")
        print("|--:|--:|--:|")
        for ef in EF:
            start = time.process_time()
            found = [graph.search(q[None], 20, {"ef": ef})[0] for q in queries]
            seconds = (time.process_time() - start) / len(queries)
            recall = np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)])
            print(f"| {ef} | {1000 * seconds:.2f} | {recall:.4f} |", flush=True)


if __name__ == "__main__":
    main()
