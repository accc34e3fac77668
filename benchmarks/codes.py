"""Codes for the lists of an IVF index: time to encode and to search, and recall@10.

    python benchmarks/codes.py [--rows 200000] [--lists 512] [--probes 32]

Vectors are drawn; `bas` is searched with `ecg`, the query's own night included. Times are processor
times of one thread, which other work on the machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from embeddings import Embeddings
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "index")]
QUERIES = 300
LEARNED_FOR = 16_000
DEPTHS = (20, 50, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--lists", type=int, default=512)
    parser.add_argument("--probes", type=int, default=32)
    args = parser.parse_args()
    from sleepfm_index import set_threads
    from sleepfm_index.search.exact import candidates, rank
    from sleepfm_index.search.ivf import InvertedFile
    from sleepfm_index.search.ivf_builder import train, write
    from sleepfm_index.search.ivf_format import BLOCK_LAYOUT, CODES, Layout
    from sleepfm_index.storage.paths import INDEXES
    from sleepfm_index.storage.vector_format import widen

    set_threads(1)
    drawn = Embeddings()
    vectors = drawn.rows(args.rows, "bas")
    ids = np.random.default_rng(1).choice(args.rows, QUERIES, replace=False)
    queries = drawn.clips(ids, "ecg").astype(np.float32)

    known = np.random.default_rng(3).choice(args.rows, LEARNED_FOR)
    others = drawn.clips(known, "ecg").astype(np.float32)

    def blocks():
        for at in range(0, args.rows, 8192):
            some = vectors[at : at + 8192]
            yield np.arange(at, at + len(some)), widen(some)

    def read(at):
        return widen(vectors[at])

    near = candidates(blocks(), queries, 10, read)
    truth = [rank(read, q, n, 10)[0] for q, n in zip(queries, near, strict=True)]
    chosen = np.sort(np.random.default_rng(2).choice(args.rows, min(args.rows, 40 * args.lists)))
    print(f"{machine()}; {args.rows:,} x 512, {args.lists} lists, {args.probes} read")
    print("| code | bytes | coded, us per clip | search, ms | recall@10 of 20, 50, 100 compared |")
    print("|---|--:|--:|--:|---|")
    centroids = None
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / INDEXES).mkdir()
        for code in (c for c in CODES if c not in BLOCK_LAYOUT.values()):
            structure = train(Layout(args.lists, code), widen(vectors[chosen]), others)
            if centroids is None:
                centroids = structure.centroids
            structure = replace(structure, centroids=centroids)
            start = time.process_time()
            entry = write(Path(scratch), "bas", (), structure, blocks())
            coded = (time.process_time() - start) / args.rows
            index = InvertedFile.open(Path(scratch), entry)
            index.search(queries, 100, {"probes": args.probes})
            start = time.process_time()
            found = [index.search(q[None], 100, {"probes": args.probes})[0] for q in queries]
            seconds = (time.process_time() - start) / QUERIES
            recalls = [
                np.mean([np.isin(t, f[:d]).mean() for t, f in zip(truth, found, strict=True)])
                for d in DEPTHS
            ]
            print(
                f"| {code} | {CODES[code]} | {1e6 * coded:.1f} | {1000 * seconds:.2f} | "
                f"{', '.join(f'{r:.4f}' for r in recalls)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
